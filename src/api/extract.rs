//! Extractors for handlers, with errors as JSON.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use super::{
    auth::{Denied, Known},
    clock::moment,
    error::ApiError,
    peer::{Peer, guest, is_local, is_own_name},
    prefix::{self, Prefixed},
    state::State,
    task::check,
};

/// A JSON body. Its content type must say so, which another site's form cannot do without asking
/// this server first.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = "The body must be JSON, with \"Content-Type: application/json\".";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "not-json", message));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            let status = error.status();
            let code =
                if status == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "bad-request" };
            ApiError::new(status, code, format!("The body cannot be read: {error}."))
        })?;
        let body = serde_json::from_slice(&bytes);
        let body = body.map_err(|error| {
            ApiError::bad_request(format!(
                "The body is invalid: \
                                                                       {error}."
            ))
        })?;
        Ok(Self(body))
    }
}

/// The query, after the `?`.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let unknown = || {
            ApiError::forbidden(
                "The address that this request comes from is not \
                                              known.",
            )
        };
        parts.extensions.get().copied().ok_or_else(unknown)
    }
}

/// Whether the request came under `api.base_path`.
pub(super) struct CookiePath(bool);

impl CookiePath {
    /// The path for which this browser should send its session.
    pub(super) fn cookie_path(&self, state: &State, headers: &HeaderMap) -> String {
        let base = Arc::clone(&state.handles.configs.borrow().api.base_path);
        prefix::cookie_path(&base, self.0, headers).to_owned()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CookiePath {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Prefixed>().is_some()))
    }
}

/// Somebody who may change things: a browser that is signed in and proves with its token that the
/// page is ours, or a script that sends the password.
pub(super) struct Admin;

impl FromRequestParts<Arc<State>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        if !state.keeper.has_password() {
            return Err(Denied::ReadOnly.into());
        }
        if let Some(password) = bearer(&parts.headers) {
            let peer = Peer::from_request_parts(parts, state).await?;
            check(state, guest(peer, &parts.headers), password).await?;
            return Ok(Self);
        }
        Browser::from_request_parts(parts, state).await.map(|Browser| Self)
    }
}

/// The variant with a session.
pub(super) struct Browser;

impl FromRequestParts<Arc<State>> for Browser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        if !state.keeper.has_password() {
            return Err(Denied::ReadOnly.into());
        }
        let known = session(state, &parts.headers).filter(|known| !known.bound.sets_up);
        let known = known.ok_or_else(ApiError::unauthorized)?;
        if has_token(&parts.headers, &known) { Ok(Self) } else { Err(no_token()) }
    }
}

/// An admin; or, while there is no password and has been no work for miners, somebody on the local
/// network who has read the set-up code in the log. Other sites' forms cannot send what that takes,
/// and a page under a rebound name does not count as local.
pub(super) struct Owner {
    /// May only make the first settings.
    pub(super) sets_up: bool,
}

impl FromRequestParts<Arc<State>> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let peer = Peer::from_request_parts(parts, state).await?;
        let headers = &parts.headers;
        if !is_setup_open(state, peer, headers) {
            return Admin::from_request_parts(parts, state)
                .await
                .map(|Admin| Self { sets_up: false });
        }
        if let Some(code) = bearer(headers) {
            state.check_code(guest(peer, headers), &code)?;
            return Ok(Self { sets_up: true });
        }
        let known = session(state, headers).filter(|known| known.bound.sets_up);
        let known = known.ok_or(Denied::WrongCode)?;
        if has_token(headers, &known) { Ok(Self { sets_up: true }) } else { Err(no_token()) }
    }
}

pub(super) fn is_setup_open(state: &State, peer: Peer, headers: &HeaderMap) -> bool {
    let handles = &state.handles;
    let has_password = handles.configs.borrow().api.admin_password_file.is_some();
    let is_new = !has_password && !state.is_set_up();
    is_new && is_local(peer, headers) && is_own_name(headers)
}

/// The session that a request belongs to: only for the page on which it was begun, as far as the
/// browser says which page asks.
pub(super) fn session(state: &State, headers: &HeaderMap) -> Option<Known> {
    let now = moment().now;
    let known = cookies(headers).find_map(|cookie| state.keeper.session(cookie, now))?;
    let bound = known.bound.origin.as_deref();
    let is_its =
        |origin: &HeaderValue| bound.is_none_or(|bound| origin.as_bytes() == bound.as_bytes());
    headers.get_all(header::ORIGIN).iter().all(is_its).then_some(known)
}

/// The requesting page, if a browser asks.
pub(super) fn origin(headers: &HeaderMap) -> Option<Box<str>> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    (origin.len() <= ORIGIN_LEN_MAX).then(|| origin.into())
}

/// The session cookies among all that the browser sends: there are different ones under a proxy's
/// path and without it, and one may have ended.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let named = pairs.filter_map(|pair| pair.trim().split_once('='));
    let ours = named.filter(|(name, value)| {
        (*name == COOKIE || *name == HOST_COOKIE)
            && !value.is_empty()
            && value.len() <= COOKIE_LEN_MAX
    });
    ours.map(|(_, value)| value).take(COOKIES_MAX)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

pub(super) fn has_token(headers: &HeaderMap, known: &Known) -> bool {
    let token = headers.get(CSRF_HEADER).map(|token| token.as_bytes()).unwrap_or_default();
    known.csrf_token.as_bytes().ct_eq(token).into()
}

fn no_token() -> ApiError {
    let message = "The header X-CSRF-Token is missing or outdated: sign in again.";
    ApiError::new(StatusCode::FORBIDDEN, "csrf", message)
}

pub(super) const COOKIE: &str = "gatewayd_session";
/// The same where a browser can tie it to this very host (RFC 6265bis): over TLS, for all paths.
pub(super) const HOST_COOKIE: &str = "__Host-gatewayd_session";
pub(super) const CSRF_HEADER: &str = "x-csrf-token";
/// The base path that the page reports, if a proxy has stripped it.
pub(super) const PAGE_HEADER: &str = "x-gatewayd-path";
/// One with a proxy's path and one without, and what other programs on this host may have set
/// before them.
const COOKIES_MAX: usize = 8;
/// Ours has 64 characters.
const COOKIE_LEN_MAX: usize = 128;
/// The longest possible name, with a scheme and a port.
const ORIGIN_LEN_MAX: usize = 270;
