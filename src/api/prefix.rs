//! The path under which a proxy in front serves everything (`api.base_path`). Some proxies strip
//! it, others keep it: both get the same answers, and so do requests without it.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
};

use super::extract::PAGE_HEADER;

/// The request's path had the prefix; added to each request from which the prefix was stripped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefixed;

/// What a request for `uri` is for.
#[derive(Debug, PartialEq)]
pub(super) enum RequestPath {
    /// Unchanged.
    Plain,
    /// This path, under the prefix.
    Below(Uri),
    /// The prefix itself: the page's links need the slash after it.
    Root(String),
}

pub(super) fn request_path(base: &str, uri: &Uri) -> RequestPath {
    let Some(rest) = uri.path().strip_prefix(base).filter(|_| !base.is_empty()) else {
        return RequestPath::Plain;
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    if rest.is_empty() {
        return RequestPath::Root(format!("{base}/{query}"));
    }
    if !rest.starts_with('/') {
        return RequestPath::Plain;
    }
    // Never an error: it is part of a URI that was parsed.
    format!("{rest}{query}")
        .parse::<PathAndQuery>()
        .map_or(RequestPath::Plain, |path| RequestPath::Below(path.into()))
}

pub(super) fn to_root(location: &str) -> Response {
    let location =
        HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
}

/// The path for which a browser should send its session here. If the proxy strips the prefix, the
/// page or the proxy reports it: whoever lies only affects their own cookie, and only for the
/// configured path.
pub(super) fn cookie_path<'a>(base: &'a str, prefixed: bool, headers: &HeaderMap) -> &'a str {
    let is_base =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.trim_end_matches('/') == base);
    let named = [PAGE_HEADER, "x-forwarded-prefix"];
    let is_named = || named.iter().any(|name| headers.get(*name).is_some_and(is_base));
    if !base.is_empty() && (prefixed || is_named()) { base } else { "/" }
}

/// A page whose links, all relative, are changed to be under `base` wherever it is shown.
pub(super) fn link(page: &[u8], base: &str) -> Vec<u8> {
    String::from_utf8_lossy(page).replace("=\"./", &format!("=\"{base}/")).into_bytes()
}

/// The description of the API, a JSON object, with the path that the API is under.
pub(super) fn describe(description: &[u8], base: &str) -> Vec<u8> {
    // A base path contains only plain characters.
    let mut told = format!("{{\"servers\":[{{\"url\":\"{base}\"}}],").into_bytes();
    told.extend_from_slice(description.strip_prefix(b"{").unwrap_or_default());
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn below(base: &str, asked: &str, meant: &str) {
        assert_eq!(
            request_path(base, &asked.parse().unwrap()),
            RequestPath::Below(meant.parse().unwrap()),
            "{asked}"
        );
    }

    #[test]
    fn the_prefix_is_taken_off_once_and_whole() {
        below("/gatewayd", "/gatewayd/", "/");
        below("/gatewayd", "/gatewayd/api/v1/status?a=b&c", "/api/v1/status?a=b&c");
        below("/gatewayd", "/gatewayd/gatewayd/metrics", "/gatewayd/metrics");
        below("/a/b", "/a/b/js/main.js", "/js/main.js");
        below("/gatewayd", "/gatewayd//evil.example/", "//evil.example/");
        below("/gatewayd", "http://home/gatewayd/x", "/x");
        for plain in ["/", "/metrics", "/gatewayd2/x", "/GATEWAYD/", "/a/gatewayd/", "*"] {
            assert_eq!(
                request_path("/gatewayd", &plain.parse().unwrap()),
                RequestPath::Plain,
                "{plain}"
            );
        }
        assert_eq!(request_path("", &"/gatewayd/".parse().unwrap()), RequestPath::Plain);
    }

    #[test]
    fn the_prefix_alone_gets_its_slash() {
        for (asked, door) in [("/gatewayd", "/gatewayd/"), ("/gatewayd?x=1", "/gatewayd/?x=1")] {
            assert_eq!(
                request_path("/gatewayd", &asked.parse().unwrap()),
                RequestPath::Root(door.into())
            );
        }
    }

    #[test]
    fn a_cookie_is_for_the_prefix_where_there_is_one() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))])
        };
        let none = HeaderMap::new();
        assert_eq!(cookie_path("", false, &none), "/");
        assert_eq!(cookie_path("", false, &with("x-forwarded-prefix", "")), "/");
        assert_eq!(cookie_path("/g", false, &none), "/");
        assert_eq!(cookie_path("/g", true, &none), "/g");
        for name in [PAGE_HEADER, "x-forwarded-prefix"] {
            assert_eq!(cookie_path("/g", false, &with(name, "/g")), "/g");
            assert_eq!(cookie_path("/g", false, &with(name, "/g/")), "/g");
            assert_eq!(cookie_path("/g", false, &with(name, "/g; Domain=example.org")), "/");
            assert_eq!(cookie_path("", false, &with(name, "/g")), "/");
        }
    }
}
