//! What blvm-node passes to a program that it starts as one of its modules: everything in the
//! environment, nothing as an argument.

use std::path::{Path, PathBuf};

use figment::{Figment, providers::Env};

/// Set when we were started as a module of a blvm-node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// Our name at the node's NodeAPI.
    pub(crate) id: String,
    /// The NodeAPI's socket.
    pub(crate) socket: Option<PathBuf>,
    /// The folder that we may write to.
    pub(crate) data_dir: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Module {
    /// None if this process was not started by a blvm-node.
    pub fn of_environment() -> Option<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        // SOCKET_PATH and DATA_DIR alone could be anybody's.
        let id = set("MODULE_ID").or_else(|| set("MODULE_NAME"))?;
        let path = |name| set(name).map(PathBuf::from);
        Some(Self {
            id,
            socket: path("SOCKET_PATH"),
            data_dir: path("DATA_DIR"),
            config: path("MODULE_CONFIG_CONFIG"),
        })
    }

    /// The configuration file: the one named by `config` in the node's configuration, or else the
    /// one in our folder.
    pub fn config(&self) -> Option<PathBuf> {
        let in_folder = || self.data_dir.as_deref().map(|dir| dir.join("gatewayd.toml"));
        self.config.clone().or_else(in_folder)
    }

    /// The defaults for what the file leaves out.
    pub(super) fn defaults(&self) -> Figment {
        let dir = self.data_dir.as_deref().map(Path::display);
        dir.map_or_else(Figment::new, |dir| {
            Figment::new().merge(("ledger.data_dir", dir.to_string()))
        })
    }

    /// Keys from the node's configuration: `mining.address` arrives as
    /// `MODULE_CONFIG_MINING.ADDRESS`, `mining__address` as `MODULE_CONFIG_MINING__ADDRESS`. The
    /// node adds some of its own.
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
