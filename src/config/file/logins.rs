//! What whoever makes the first settings may do with the logins of nodes. They need no password, so
//! they must not make gatewayd tell a stranger what it knows.

use crate::{
    config::edit::MASK,
    node::{Auth, NodeConfig},
};

/// Finds each of the `new` nodes that would be sent a login which it was not meant to have. `shown`
/// are the same nodes, with [`MASK`] for each password that the change did not bring.
///
/// A login may go where it goes by the `old` settings. Another password has to come with the change,
/// and a cookie file, which may be any file, is for a node on this machine.
pub(super) fn check(
    old: &[NodeConfig],
    new: &[NodeConfig],
    shown: &[NodeConfig],
) -> Result<(), Vec<String>> {
    let is_known =
        |node: &NodeConfig| old.iter().any(|it| it.rpc_url == node.rpc_url && it.auth == node.auth);
    let problem = |(at, node): (usize, &NodeConfig)| match &node.auth {
        _ if is_known(node) => None,
        Auth::None => None,
        Auth::CookieFile(_) if node.rpc_url.is_local() => None,
        Auth::CookieFile(_) => Some(format!(
            "node.{at}: as long as no admin password is set, a cookie file is only for a node on \
             this machine: for {}, enter rpc_user and rpc_password, or edit gatewayd.toml",
            node.rpc_url
        )),
        Auth::UserPass(..) if is_own(shown.get(at)) => None,
        Auth::UserPass(..) => Some(format!(
            "node.{at}: the stored rpc_password is for another rpc_url or rpc_user: as long as no \
             admin password is set, enter the password anew, or edit gatewayd.toml"
        )),
    };
    let problems: Vec<_> = new.iter().enumerate().filter_map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The password came with the change.
fn is_own(shown: Option<&NodeConfig>) -> bool {
    let auth = shown.map(|node| &node.auth);
    matches!(auth, Some(Auth::UserPass(_, password)) if password != MASK)
}
