//! datum_gateway 0.5.1's JSON, for scripts that know it: the same paths, keys and types.
//!
//! Its two admin paths take HTTP Digest; here they take what all of gatewayd's do (a bearer token, a
//! session), and HTTP Basic with the user `admin`. Digest would need the password itself, or a hash
//! that is as good as it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, extract,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use base64ct::{Base64, Encoding};

use super::{
    clock::moment,
    error::ApiError,
    extract::Admin,
    peer::{Peer, guest},
    shapes::{
        ErrorBody,
        datum_gateway::{
            Configuration, CurrentJobAnswer, Problem, ServerInfo, StratumClient, ThreadStats,
        },
    },
    state::State,
    task::check,
    view,
};

type SharedState = extract::State<Arc<State>>;

/// Connections and hashrate.
#[utoipa::path(
    get, path = "/v1/stratum_server_info", tag = "as datum_gateway",
    responses((status = 200, body = ServerInfo)),
)]
pub(super) async fn server_info(extract::State(state): SharedState) -> Json<ServerInfo> {
    Json(view::datum_gateway::server_info(&state.handles))
}

/// The template that is mined on.
#[utoipa::path(
    get, path = "/v1/current_stratum_job", tag = "as datum_gateway",
    responses((status = 200, body = CurrentJobAnswer)),
)]
pub(super) async fn current_job(extract::State(state): SharedState) -> Json<CurrentJobAnswer> {
    let job = view::datum_gateway::current_job(&state.handles);
    let none = CurrentJobAnswer::None(Problem { error: "No stratum job" });
    Json(job.map_or(none, |job| CurrentJobAnswer::Job(Box::new(job))))
}

/// Whom the next block pays: address -> sats.
#[utoipa::path(
    get, path = "/v1/coinbaser", tag = "as datum_gateway",
    responses((status = 200, body = BTreeMap<String, u64>)),
)]
pub(super) async fn coinbaser(extract::State(state): SharedState) -> Json<BTreeMap<String, u64>> {
    Json(view::datum_gateway::coinbaser(&state.handles, &moment()))
}

/// The same as one thread's, whose number is 0.
#[utoipa::path(
    get, path = "/v1/thread_stats", tag = "as datum_gateway",
    responses((status = 200, body = BTreeMap<String, ThreadStats>)),
)]
pub(super) async fn thread_stats(
    extract::State(state): SharedState,
) -> Json<BTreeMap<u32, ThreadStats>> {
    Json(view::datum_gateway::thread_stats(&state.handles))
}

/// Miners by thread and number: the oldest 20,000 at most.
#[utoipa::path(
    get, path = "/v1/stratum_client_list", tag = "as datum_gateway",
    responses(
        (status = 200, body = BTreeMap<String, BTreeMap<String, StratumClient>>),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("basic" = []), ("bearer" = []), ("cookie" = [], "csrf" = [])),
)]
pub(super) async fn clients(
    extract::State(state): SharedState,
    _: BasicAdmin,
) -> Json<BTreeMap<u32, BTreeMap<u64, StratumClient>>> {
    Json(view::datum_gateway::clients(&state.handles, &moment()))
}

/// What gatewayd.toml says, in the C gateway's terms, without its passwords.
#[utoipa::path(
    get, path = "/v1/configuration", tag = "as datum_gateway",
    responses(
        (status = 200, body = Configuration),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("basic" = []), ("bearer" = []), ("cookie" = [], "csrf" = [])),
)]
pub(super) async fn configuration(
    extract::State(state): SharedState,
    _: BasicAdmin,
) -> Json<Configuration> {
    Json(view::datum_gateway::configuration(&state.handles))
}

/// An admin, also by HTTP Basic. For reading alone: a browser sends what it was told once with every
/// request, whichever page makes it.
pub(super) struct BasicAdmin;

impl FromRequestParts<Arc<State>> for BasicAdmin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Response> {
        let Some(given) = basic(&parts.headers).filter(|_| state.keeper.has_password()) else {
            let admin = Admin::from_request_parts(parts, state).await;
            return admin.map(|Admin| Self).map_err(challenge);
        };
        let peer = Peer::from_request_parts(parts, state).await.map_err(challenge)?;
        let password = given.ok_or_else(|| challenge(ApiError::unauthorized()))?;
        let checked = check(state, guest(peer, &parts.headers), password).await;
        checked.map(|()| Self).map_err(|denied| challenge(denied.into()))
    }
}

/// None without `Authorization: Basic`; the password in it, if the user is `admin`.
fn basic(headers: &HeaderMap) -> Option<Option<String>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Base64::decode_vec(encoded.trim()).unwrap_or_default();
    // A password: it is compared, and never shown.
    let named = str::from_utf8(&decoded).ok().and_then(|text| text.split_once(':'));
    Some(named.filter(|(user, _)| *user == USER).map(|(_, password)| password.to_owned()))
}

/// Says in a 401 that Basic is taken here, for clients that wait to be asked.
fn challenge(error: ApiError) -> Response {
    let mut response = error.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Basic realm=\"gatewayd\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// The C gateway's only one.
const USER: &str = "admin";
