//! What whoever makes the first settings may do with the logins of nodes. They need no password, so
//! they must not make gatewayd tell a stranger what it knows.

use std::net::IpAddr;

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
        Auth::CookieFile(_) if is_here(&node.rpc_url) => None,
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

/// True for a URL that leads to this machine, whatever a resolver says.
fn is_here(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    let Some((name, _port)) = host.and_then(|host| host.rsplit_once(':')) else { return false };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        for here in ["127.0.0.1:8332", "127.1.2.3:1/wallet/x", "localhost:8332", "[::1]:8332"] {
            assert!(is_here(&format!("http://{here}")), "{here}");
        }
        let others = [
            "192.168.1.2:8332",
            "0.0.0.0:8332",
            "127.0.0.1.example.org:1",
            "localhost.example.org:1",
            "example.org:1/localhost:1",
            "127.0.0.1:8332@example.org:1",
            "[::2]:1",
            "127.0.0.1",
        ];
        for other in others {
            assert!(!is_here(&format!("http://{other}")), "{other}");
        }
    }
}
