//! What blvm-node tells a program that it starts as one of its modules: all of it in the
//! environment, and nothing as an argument.

use std::path::{Path, PathBuf};

use figment::{Figment, providers::Env};

/// We are a module of a blvm-node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// As whom the node's NodeAPI knows us.
    pub(crate) id: String,
    /// Of the NodeAPI.
    pub(crate) socket: Option<PathBuf>,
    /// Ours to write to.
    pub(crate) data_dir: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Module {
    /// None when no blvm-node has started this process.
    pub fn of_environment() -> Option<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        // SOCKET_PATH and DATA_DIR are anybody's names.
        let id = set("MODULE_ID").or_else(|| set("MODULE_NAME"))?;
        let path = |name| set(name).map(PathBuf::from);
        Some(Self {
            id,
            socket: path("SOCKET_PATH"),
            data_dir: path("DATA_DIR"),
            config: path("MODULE_CONFIG_CONFIG"),
        })
    }

    /// The configuration: what the node's own says in `config`, else the file in our folder.
    pub fn config(&self) -> Option<PathBuf> {
        let in_folder = || self.data_dir.as_deref().map(|dir| dir.join("gatewayd.toml"));
        self.config.clone().or_else(in_folder)
    }

    /// What holds where the file is silent.
    pub(super) fn defaults(&self) -> Figment {
        let dir = self.data_dir.as_deref().map(Path::display);
        dir.map_or_else(Figment::new, |dir| {
            Figment::new().merge(("ledger.data_dir", dir.to_string()))
        })
    }

    /// Keys from the node's configuration: `mining.address` comes as `MODULE_CONFIG_MINING.ADDRESS`,
    /// `mining__address` as `MODULE_CONFIG_MINING__ADDRESS`. The node adds some of its own.
    pub(super) fn keys() -> Env {
        let is_ours = |key: &figment::value::UncasedStr| {
            let key = key.as_str();
            key.contains("__") || key.contains('.') || key.eq_ignore_ascii_case("node")
        };
        Env::prefixed("MODULE_CONFIG_")
            .filter(is_ours)
            .map(|key| key.as_str().to_ascii_lowercase().replace("__", ".").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(variables: &[(&str, &str)]) -> Option<Module> {
        Module::from(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_module_is_known_by_its_id() {
        assert_eq!(module(&[("SOCKET_PATH", "/s"), ("DATA_DIR", "/d")]), None);
        assert_eq!(module(&[("MODULE_ID", ""), ("SOCKET_PATH", "/s")]), None);
        let found = module(&[("MODULE_ID", "gatewayd_1f"), ("SOCKET_PATH", "/s")]).unwrap();
        assert_eq!(
            (found.id.as_str(), found.socket.as_deref()),
            ("gatewayd_1f", Some("/s".as_ref()))
        );
        assert_eq!(found.config(), None);
    }

    #[test]
    fn its_configuration_is_in_its_folder_or_named() {
        let found = module(&[("MODULE_NAME", "gatewayd"), ("DATA_DIR", "/d")]).unwrap();
        assert_eq!(found.config(), Some("/d/gatewayd.toml".into()));
        let named = [("MODULE_ID", "g"), ("DATA_DIR", "/d"), ("MODULE_CONFIG_CONFIG", "/e/g.toml")];
        assert_eq!(module(&named).unwrap().config(), Some("/e/g.toml".into()));
    }
}
