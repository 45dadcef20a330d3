//! What a web browser is shown when it opens a port for miners.

use std::net::{IpAddr, SocketAddr};

/// What the page may say about the dashboard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dashboard {
    At(SocketAddr),
    Off,
    /// Not for those outside.
    Secret,
}

impl Dashboard {
    /// The dashboard, for those who are near: on this machine, on its network, or on a private one
    /// that reaches it.
    pub(super) fn for_peer(dashboard: Option<SocketAddr>, peer: IpAddr) -> Self {
        match dashboard {
            _ if !is_near(peer) => Self::Secret,
            Some(addr) => Self::At(addr),
            None => Self::Off,
        }
    }
}

fn is_near(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(ip) => {
            // 100.64.0.0/10: what private networks over the internet, like Tailscale, use.
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// True for the beginning of an HTTP request. A Stratum V2 key begins like one once in 2^40 times.
pub(super) fn is_http(first: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b' ', first).filter(|at| *at <= METHOD_LEN_MAX) else {
        return false;
    };
    let (method, rest) = first.split_at(at);
    let is_method = METHODS.contains(&method);
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_whole = line.len() < rest.len();
    is_method
        && (rest.starts_with(b" /") || rest.starts_with(b" http") || rest.starts_with(b" *"))
        && (!is_whole || memchr::memmem::find(line, b" HTTP/").is_some())
}

/// Appends a page that says where the dashboard is and how to connect a miner.
pub(super) fn answer(request: &[u8], dashboard: Dashboard, out: &mut Vec<u8>) {
    let host = host(request);
    let (name, port) = host.map_or(("", None), split_port);
    let dashboard = match dashboard {
        Dashboard::Secret => "Whoever runs it knows where its dashboard is.".into(),
        Dashboard::Off => {
            "gatewayd's dashboard is switched off here: <code>api.listen</code> is empty in its \
                 settings."
                .into()
        }
        Dashboard::At(addr) if addr.ip().is_loopback() => format!(
            "The dashboard is at <a href=\"http://{addr}/\">http://{addr}/</a>, for browsers on the \
             machine that gatewayd runs on. For other machines set <code>api.listen = \
             \"0.0.0.0:{}\"</code> in its settings.",
            addr.port()
        ),
        Dashboard::At(addr) => {
            let place = if addr.ip().is_unspecified() && !name.is_empty() {
                format!("{name}:{}", addr.port())
            } else {
                addr.to_string()
            };
            format!("The dashboard is at <a href=\"http://{place}/\">http://{place}/</a>.")
        }
    };
    let name = if name.is_empty() { "HOST" } else { name };
    let port = port.map_or_else(|| "23334".into(), |port| port.to_string());
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>A port for miners - gatewayd</title></head><body>\n\
         <h1>This port is for miners</h1>\n<p>{dashboard}</p>\n\
         <p>To connect a miner, set in its settings:</p>\n<ul>\
         <li>URL: <code>stratum+tcp://{name}:{port}</code></li>\
         <li>User: your payout address, a dot, and a name for the miner</li>\
         <li>Password: anything; <code>d=65536</code> asks for that difficulty</li></ul>\n\
         </body></html>\n"
    );
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nCache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}

/// What the browser calls this machine; none unless it is safe to show.
fn host(request: &[u8]) -> Option<&str> {
    let mut lines = request.split(|byte| *byte == b'\n').skip(1).take(HEADERS_MAX);
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        name.eq_ignore_ascii_case(b"host").then_some(&value[1..])
    })?;
    let value = std::str::from_utf8(value.trim_ascii()).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!value.is_empty() && value.len() <= HOST_LEN_MAX && value.bytes().all(is_plain))
        .then_some(value)
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

const METHODS: [&[u8]; 8] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"DELETE", b"PRI"];
/// `OPTIONS`.
const METHOD_LEN_MAX: usize = 7;
/// A browser sends some fifteen.
const HEADERS_MAX: usize = 100;
/// As long as a name can be, and a port.
const HOST_LEN_MAX: usize = 261;

#[cfg(test)]
mod tests {
    use super::*;

    fn page(request: &str, dashboard: Option<&str>) -> String {
        page_for("192.168.1.7", request, dashboard)
    }

    fn page_for(peer: &str, request: &str, dashboard: Option<&str>) -> String {
        let mut out = Vec::new();
        let dashboard = dashboard.map(|addr| addr.parse().unwrap());
        let dashboard = Dashboard::for_peer(dashboard, peer.parse().unwrap());
        answer(request.as_bytes(), dashboard, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        text
    }

    #[test]
    fn the_page_names_the_dashboard_as_the_browser_can_reach_it() {
        let get = |host: &str| format!("GET / HTTP/1.1\r\nAccept: */*\r\nHost: {host}\r\n\r\n");
        let text = page(&get("umbrel.local:23335"), Some("0.0.0.0:7152"));
        assert!(text.contains("href=\"http://umbrel.local:7152/\""), "{text}");
        assert!(text.contains("stratum+tcp://umbrel.local:23335<"), "{text}");
        let text = page(&get("[fd00::1]:23334"), Some("[::]:7152"));
        assert!(text.contains("href=\"http://[fd00::1]:7152/\""), "{text}");
        let text = page(&get("[fd00::1]"), Some("[::]:7152"));
        assert!(text.contains("stratum+tcp://[fd00::1]:23334<"), "{text}");
        let text = page(&get("box:1"), Some("127.0.0.1:7152"));
        assert!(text.contains("http://127.0.0.1:7152/</a>, for browsers on the machine"), "{text}");
        assert!(page(&get("box:1"), None).contains("switched off"));
    }

    /// Scanners try every port of every address.
    #[test]
    fn only_those_who_are_near_are_told_where_the_dashboard_is() {
        let get = "GET / HTTP/1.1\r\nHost: box:23334\r\n\r\n";
        let told = |peer| page_for(peer, get, Some("0.0.0.0:7152"));
        for near in [
            "127.0.0.1",
            "::1",
            "10.9.8.7",
            "172.31.0.1",
            "192.168.0.9",
            "169.254.3.4",
            "100.64.0.1",
            "100.127.255.1",
            "::ffff:192.168.0.9",
            "fd12::1",
            "fe80::1",
        ] {
            assert!(told(near).contains("http://box:7152/"), "{near}");
        }
        for far in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2001:db8::1"] {
            let text = told(far);
            assert!(!text.contains("7152") && !text.contains("api.listen"), "{far}: {text}");
            assert!(text.contains("stratum+tcp://box:23334<"), "{far}: {text}");
            assert!(!page_for(far, get, None).contains("switched off"), "{far}");
            assert!(!page_for(far, get, Some("127.0.0.1:7152")).contains("7152"), "{far}");
        }
    }

    #[test]
    fn what_a_browser_sends_never_becomes_markup() {
        for host in ["<script>", "a\"b", "", &"x".repeat(300), "é"] {
            let text =
                page(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Some("0.0.0.0:7152"));
            assert!(text.contains("stratum+tcp://HOST:23334"), "{text}");
            assert!(!text.contains("<script>"), "{text}");
        }
        page("GET / HTTP/1.0", Some("0.0.0.0:7152"));
        page("", None);
    }

    #[test]
    fn requests_are_distinguished_from_keys_and_from_miners() {
        for yes in ["GET / HTTP/1.1\r\n", "HEAD / HTTP/1.0\r\n", "PRI * HTTP/2.0\r\n", "GET /a"] {
            assert!(is_http(yes.as_bytes()), "{yes}");
        }
        for no in ["", "GET", "GET \n", "GET / and more\n", "{\"id\": 1}", "EAT / HTTP/1.1\r\n"] {
            assert!(!is_http(no.as_bytes()), "{no}");
        }
    }
}
