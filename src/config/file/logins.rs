//! What whoever makes the first settings may do with nodes' logins. They need no password, so they
//! must not make gatewayd send its secrets to a stranger.

use crate::{
    config::edit::MASK,
    node::{Auth, NodeConfig},
};

/// Finds each of the `new` nodes that would be sent a login that is not meant for it. `shown` are
/// the same nodes, with [`MASK`] in place of each password that did not come with the change.
///
/// A login may go where it went under the `old` settings. Any other password has to come with the
/// change, and a cookie file is only for a node on this machine, and has the name that nodes give it: a
/// path could be that of any file.
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
        Auth::CookieFile(path) if node.rpc_url.is_local() && path.ends_with(".cookie") => None,
        Auth::CookieFile(path) if node.rpc_url.is_local() => Some(format!(
            "node.{at}: as long as no admin password is set, only a file named .cookie may be used: for \
             {}, enter rpc_user and rpc_password, or edit gatewayd.toml",
            path.display()
        )),
        Auth::CookieFile(_) => Some(format!(
            "node.{at}: as long as no admin password is set, a cookie file may only be used for a \
             node on this machine: for {}, enter rpc_user and rpc_password, or edit gatewayd.toml",
            node.rpc_url
        )),
        Auth::UserPass(..) if is_own(shown.get(at)) => None,
        Auth::UserPass(..) => Some(format!(
            "node.{at}: the stored rpc_password is for another rpc_url or rpc_user: as long as no \
             admin password is set, enter the password again, or edit gatewayd.toml"
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
