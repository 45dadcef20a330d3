//! [[node]], and which templates are accepted.

use std::sync::Arc;

use super::Check;
use crate::{
    config::{Module, raw},
    node::{AllowedRules, Auth, BlvmConfig, NodeConfig, NodeKind},
};

impl Check {
    pub(super) fn nodes(&mut self, raw: &[raw::Node], needed: bool) -> Vec<NodeConfig> {
        let nodes = self.each("node", raw, Self::node);
        if needed && nodes.iter().all(|node| node.submit_only) && self.problems.is_empty() {
            self.note::<()>(
                "node",
                "no [[node]] gives templates: add one with rpc_url and rpc_cookie_file (or \
                 rpc_user and rpc_password) of your bitcoind",
            );
        }
        nodes
    }

    fn node(&mut self, raw: &raw::Node) -> Option<NodeConfig> {
        let kind = self.node_kind(raw)?;
        let (rpc_url, name) = self.node_url(&raw.rpc_url)?;
        let zmq_hashblock = match raw.zmq_hashblock.as_str() {
            "" => None,
            text => Some(self.zmq_endpoint(text)?),
        };
        let auth = match (raw.rpc_user.is_empty(), raw.rpc_password.is_empty()) {
            (false, false) => {
                Auth::UserPass(raw.rpc_user.clone(), raw.rpc_password.expose().to_owned())
            }
            (true, true) => {
                Auth::CookieFile(self.path("node.rpc_cookie_file", &raw.rpc_cookie_file)?)
            }
            _ => {
                return self.note(
                    "node",
                    "rpc_user and rpc_password go together: set both, or neither to use the cookie",
                );
            }
        };
        let submit_only = raw.submit_only;
        Some(NodeConfig { name: name.into(), rpc_url, auth, zmq_hashblock, submit_only, kind })
    }

    fn node_kind(&mut self, raw: &raw::Node) -> Option<NodeKind> {
        let is_blvm =
            self.choice("node.kind", &raw.kind, &[("bitcoind", false), ("blvm", true)])?;
        let socket = &raw.nodeapi_socket;
        if !is_blvm {
            return if socket.is_empty() {
                Some(NodeKind::Bitcoind)
            } else {
                self.note("node.nodeapi_socket", "is only for kind = \"blvm\": remove it")
            };
        }
        if !raw.zmq_hashblock.is_empty() {
            return self.note(
                "node.zmq_hashblock",
                "is only for kind = \"bitcoind\": remove it, and set nodeapi_socket instead",
            );
        }
        if raw.rpc_user.is_empty() && raw.rpc_cookie_file == raw::Node::default().rpc_cookie_file {
            return self.note(
                "node.rpc_cookie_file",
                "is the default for bitcoind: set it to .cookie in your blvm-node's data folder",
            );
        }
        let module = Module::of_environment();
        let module_id = module.as_ref().map_or("gatewayd", |module| &module.id);
        let module_id = Arc::from(module_id);
        let nodeapi_socket = match socket.as_str() {
            "" => module.and_then(|module| module.socket),
            path => Some(self.path("node.nodeapi_socket", path)?),
        };
        Some(NodeKind::Blvm(BlvmConfig { nodeapi_socket, module_id }))
    }

    /// Names as in templates, with or without the exclamation mark in front.
    pub(super) fn allow_rules(&mut self, raw: &[String]) -> Option<AllowedRules> {
        const KEY: &str = "template.allow_rules";
        let names: Vec<Box<str>> =
            raw.iter().map(|rule| rule.trim().trim_start_matches('!').into()).collect();
        if names.iter().any(|rule| rule.is_empty()) {
            return self.note(
                KEY,
                "contains an empty name: write each rule as the error message \
                                   names it",
            );
        }
        if names.iter().any(|rule| &**rule == "blake2b") {
            return self.note(
                KEY,
                "contains \"blake2b\", another proof of work, which SHA-256 miners cannot do, so \
                 no block would be valid: use a node on the SHA-256 chain (Bitcoin Core)",
            );
        }
        Some(names.into())
    }
}
