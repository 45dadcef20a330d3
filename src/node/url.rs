//! Where a node's RPC is.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use super::RpcError;

/// `http://host:port`, or with a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RpcUrl {
    address: Arc<str>,
    path: Arc<str>,
}

impl RpcUrl {
    /// From host and port and an optional path, already checked.
    pub(crate) fn of(address: &str, path: &str) -> Self {
        Self { address: address.into(), path: if path.is_empty() { "/" } else { path }.into() }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// True if it certainly leads to this machine, whatever a resolver says.
    pub(crate) fn is_local(&self) -> bool {
        let Some((name, _port)) = self.address.rsplit_once(':') else { return false };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// With its leading slash.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for RpcUrl {
    type Err = RpcError;

    fn from_str(url: &str) -> Result<Self, RpcError> {
        let wrong = || RpcError::Url(url.into());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (address, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let has_port = address.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty() && port.parse::<u16>().is_ok() && !address.ends_with(']')
        });
        let is_clean = !url.contains(|c: char| c.is_whitespace() || c.is_control());
        if has_port && is_clean && !address.contains('@') {
            Ok(Self::of(address, path))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if &*self.path == "/" { "" } else { &self.path };
        write!(f, "http://{}{path}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_a_port_and_perhaps_a_path() {
        for (text, address, path) in [
            ("http://127.0.0.1:8332", "127.0.0.1:8332", "/"),
            ("http://[::1]:8332/wallet/a", "[::1]:8332", "/wallet/a"),
        ] {
            let url: RpcUrl = text.parse().unwrap();
            assert_eq!((&**url.address(), url.path(), &*url.to_string()), (address, path, text));
        }
        for wrong in
            ["https://a:1", "http://a", "a:1", "http://a:1/x y", "http://[::1]", "http://u@a:1"]
        {
            assert_eq!(wrong.parse::<RpcUrl>(), Err(RpcError::Url(wrong.into())));
        }
    }

    #[test]
    fn this_machine_is_told_from_others() {
        let is_local = |address: &str| {
            format!("http://{address}").parse::<RpcUrl>().is_ok_and(|url| url.is_local())
        };
        for here in ["127.0.0.1:8332", "127.1.2.3:1/wallet/x", "localhost:8332", "[::1]:8332"] {
            assert!(is_local(here), "{here}");
        }
        for other in [
            "192.168.1.2:8332",
            "0.0.0.0:8332",
            "127.0.0.1.example.org:1",
            "localhost.example.org:1",
            "example.org:1/localhost:1",
            "127.0.0.1:8332@example.org:1",
            "[::2]:1",
            "127.0.0.1",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
