//! The dashboard's files, which are embedded in the binary.

use std::sync::Arc;

use axum::{
    extract,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

use super::{error::ApiError, prefix, state::State};

#[derive(RustEmbed)]
#[folder = "web/"]
struct Web;

/// All files.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = std::borrow::Cow<'static, str>> {
    Web::iter()
}

/// Everything that is not an endpoint.
pub(super) async fn serve(
    extract::State(state): extract::State<Arc<State>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path();
    if path.starts_with("/api/") {
        let message = format!(
            "There is no {path}: see /api/v1/openapi.json for everything that \
                               exists."
        );
        return ApiError::not_found(message).into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return not_allowed().await;
    }
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let Some(file) = Web::get(name) else {
        return ApiError::not_found(format!("There is no {path}.")).into_response();
    };
    let base = Arc::clone(&state.handles.configs.borrow().api.base_path);
    let hash = file.metadata.sha256_hash();
    // Weak, since the body may be sent compressed. A page's links depend on its base path.
    let (etag, body) = if name.ends_with(".html") && !base.is_empty() {
        let etag = format!("W/\"{}-{base}\"", faster_hex::hex_string(&hash[..16]));
        (etag, prefix::link(&file.data, &base).into())
    } else {
        (format!("W/\"{}\"", faster_hex::hex_string(&hash[..16])), file.data)
    };
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    let mut response = if known.any(|it| it.trim() == etag || it.trim() == "*") {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content_type = HeaderValue::from_static(content_type(name));
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    };
    let headers = response.headers_mut();
    // The next version of gatewayd may have other files under the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// A method that an endpoint does not have.
pub(super) async fn not_allowed() -> Response {
    let message = "This method is not supported here: see /api/v1/openapi.json.";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt" | "LICENSE") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
