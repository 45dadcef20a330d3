//! Turns node URLs as curl accepts them into gatewayd's.

/// The parts that gatewayd has separate keys for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct NodeUrl {
    /// http://host:port, and a path if there is one.
    pub(super) url: String,
    pub(super) login: Option<(String, String)>,
}

/// Takes the login out of `url` and adds what curl would assume: http, port 80.
pub(super) fn node_url(url: &str) -> NodeUrl {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let login = login.map(|login| {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        (percent_decoded(user), percent_decoded(password))
    });
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let port = if has_port || scheme != "http" { "" } else { ":80" };
    let path = if path == "/" { "" } else { path };
    NodeUrl { url: format!("{scheme}://{host}{port}{path}"), login }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after.first_chunk().filter(|_| *first == b'%').and_then(hex_byte);
        bytes.push(escape.unwrap_or(*first));
        rest = escape.and_then(|_| after.get(2..)).unwrap_or(after);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte([high, low]: &[u8; 2]) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|it| u8::try_from(it).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(url: &str, expected: &str, login: Option<(&str, &str)>) {
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert_eq!(node_url(url), NodeUrl { url: expected.into(), login });
    }

    #[test]
    fn curls_assumptions_are_written_out() {
        case("http://localhost:8332", "http://localhost:8332", None);
        case("http://localhost:8332/", "http://localhost:8332", None);
        case("localhost:8332", "http://localhost:8332", None);
        case("http://node", "http://node:80", None);
        case("http://[::1]", "http://[::1]:80", None);
        case("http://[::1]:8332/wallet/x", "http://[::1]:8332/wallet/x", None);
        case("https://node", "https://node", None);
    }

    #[test]
    fn logins_are_taken_out_and_decoded() {
        case("http://me:secret@node:8332", "http://node:8332", Some(("me", "secret")));
        case("me:p%40ss%2f:w@node:1", "http://node:1", Some(("me", "p@ss/:w")));
        case("http://me:a@b@node:1", "http://node:1", Some(("me", "a@b")));
        case("http://me@node:1", "http://node:1", Some(("me", "")));
        case("http://me:5%@node:1", "http://node:1", Some(("me", "5%")));
        case("http://me:%zz%+1@node:1", "http://node:1", Some(("me", "%zz%+1")));
        case("http://node:1/a@b", "http://node:1/a@b", None);
    }
}
