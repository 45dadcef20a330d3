//! Which requests are admitted at all, by the host name that they use and the page that they come
//! from. A stranger's page can make a browser send any request here (by DNS rebinding, under the
//! stranger's own name, which then points here; or cross-site, without reading the answer): both
//! are refused.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{self, Request},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    error::ApiError,
    peer::{is_local_name, name_of, values},
    state::State,
};
use crate::work::printable;

/// Admits a request, or says why not.
pub(super) async fn guard(
    extract::State(state): extract::State<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = Arc::clone(&state.handles.configs.borrow().api.allowed_hosts);
    let is_health = HEALTH.contains(&request.uri().path());
    let checked =
        if is_health { Ok(()) } else { check(&allowed, request.method(), request.headers()) };
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(allowed: &[Box<str>], method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    // Browsers always send one, and scripts that send none do not act for a page.
    let named = values(headers, &["host", "x-forwarded-host"]);
    if let Some(host) = named.map(str::trim).find(|host| !is_ours(host, allowed)) {
        return Err(foreign_host(host));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_own_page = matches!(site, None | Some(b"same-origin" | b"none"));
    let mut origins = values(headers, &["origin"]).map(|it| it.split_once("://"));
    if is_own_page && origins.all(|it| it.is_some_and(|(_, host)| is_ours(host, allowed))) {
        return Ok(());
    }
    let message = "Another site's page sent this request from your browser. Nothing was done.";
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-page", message))
}

/// A name, perhaps with a port, that no stranger can have pointed here. An address is one, since a
/// page at an address comes from there.
fn is_ours(host: &str, allowed: &[Box<str>]) -> bool {
    let name = name_of(host);
    let is_below = |end: &str| {
        name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    name.parse::<IpAddr>().is_ok()
        || is_local_name(host)
        || OWN_ENDS.iter().any(|end| is_below(end))
        || *name == **NODE_NAME
        || allowed.iter().any(|own| match own.strip_prefix("*.") {
            Some(end) => is_below(end),
            None => **own == *name,
        })
}

fn foreign_host(host: &str) -> ApiError {
    let name = name_of(host);
    let name = printable(&name, NAME_LEN_MAX);
    let message = format!(
        "gatewayd does not know the name \"{name}\", and refuses it so that no stranger's page can \
         read this one through your browser. If the name is yours, add api.allowed_hosts = \
         [\"{name}\"] to gatewayd.toml and send SIGHUP (or set \
         GATEWAYD_API__ALLOWED_HOSTS='[\"{name}\"]' and restart). Until then, open gatewayd by its \
         IP address."
    );
    ApiError::new(StatusCode::FORBIDDEN, "foreign-host", message)
}

/// What a monitor may request under any name: it reveals only whether all is well.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// Suffixes of names that nobody can buy: those of home networks and routers, Tor, node appliances,
/// and Tailscale, which lead into the network of whoever looks them up.
const OWN_ENDS: [&str; 10] = [
    "localhost",
    "localdomain",
    "onion",
    "internal",
    "home.arpa",
    "lan",
    "home",
    "fritz.box",
    "startos",
    "ts.net",
];
/// A DNS name is no longer than this.
const NAME_LEN_MAX: usize = 253;
/// This machine's name.
static NODE_NAME: LazyLock<String> =
    LazyLock::new(|| rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase());

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn code(method: &Method, pairs: &[(&'static str, &str)]) -> Option<&'static str> {
        let allowed = ["mine.example.org".into(), "*.farm.example".into()];
        check(&allowed, method, &headers(pairs)).err().map(|error| error.code())
    }

    #[test]
    fn names_that_a_stranger_can_point_here_are_refused() {
        for ours in [
            "127.0.0.1:7152",
            "[::1]:7152",
            "8.8.8.8",
            "[2001:db8::1]:7152",
            "192.168.1.2:80",
            "localhost:7152",
            "umbrel.local",
            "UMBREL.LOCAL:7152",
            "umbrel.local.",
            "gatewayd_gatewayd_1:7152",
            "abcdefabcdef.onion",
            "gatewayd.startos",
            "raspberrypi.fritz.box:7152",
            "box.tail1234.ts.net",
            "mine.example.org",
            "a.farm.example:7152",
        ] {
            assert_eq!(code(&Method::GET, &[("host", ours)]), None, "{ours}");
        }
        for foreign in [
            "evil.example:7152",
            "192.168.1.2.evil.example",
            "local.evil.example",
            "notmine.example.org",
            "farm.example",
            "evilonion",
            ".onion",
            "evil.example#.local",
            "evil.example:80:80",
            "",
        ] {
            let wanted = if foreign == "evilonion" { None } else { Some("foreign-host") };
            assert_eq!(code(&Method::GET, &[("host", foreign)]), wanted, "{foreign}");
        }
        let two = [("host", "127.0.0.1"), ("x-forwarded-host", "evil.example")];
        assert_eq!(code(&Method::GET, &two), Some("foreign-host"));
        assert_eq!(code(&Method::GET, &[]), None, "no browser is so old");
    }

    #[test]
    fn a_change_comes_from_our_own_page() {
        let host = ("host", "umbrel.local:7152");
        for fine in [
            vec![host],
            vec![host, ("origin", "http://umbrel.local:7152")],
            vec![host, ("origin", "http://umbrel.local:7152"), ("sec-fetch-site", "same-origin")],
            vec![("host", "127.0.0.1:1"), ("origin", "http://mine.example.org")],
            vec![host, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(code(&Method::POST, &fine), None, "{fine:?}");
        }
        for foreign in [
            vec![host, ("origin", "https://evil.example")],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://umbrel.local:8080"), ("sec-fetch-site", "same-site")],
            vec![host, ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(code(&Method::PUT, &foreign), Some("foreign-page"), "{foreign:?}");
            assert_eq!(code(&Method::GET, &foreign), None, "{foreign:?}");
        }
    }
}
