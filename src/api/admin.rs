//! Signing in, and what only an admin may do.

use std::sync::Arc;

use axum::{
    Json,
    extract::{self, Path},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    auth::Bound,
    clock::moment,
    error::ApiError,
    extract::{
        Admin, Body, Browser, COOKIE, CookiePath, HOST_COOKIE, Owner, cookies, has_token,
        is_setup_open, origin, session as session_of,
    },
    peer::{Peer, guest, is_over_tls},
    shapes::{Done, ErrorBody, Login, Session, Settings, SettingsApplied, SettingsChange},
    state::State,
    task::{check, first_password, wait_for_password},
    tries,
};
use crate::config::{Applied, Change, Edit, SettingsError, SettingsView};

type SharedState = extract::State<Arc<State>>;

/// Whether this client may change things: with its cookie and its token.
#[utoipa::path(
    get, path = "/api/v1/session", tag = "signing in", responses((status = 200, body = Session)),
)]
pub(super) async fn session(
    extract::State(state): SharedState,
    peer: Peer,
    headers: HeaderMap,
) -> Json<Session> {
    // A cookie alone is not enough: other programs on this host get it as well.
    let known = session_of(&state, &headers).filter(|known| has_token(&headers, known));
    let setup_open = is_setup_open(&state, peer, &headers);
    let sets_up = known.as_ref().is_some_and(|known| known.bound.sets_up);
    Json(Session {
        setup_open,
        may_set_up: setup_open && sets_up,
        admin_enabled: state.keeper.has_password(),
        signed_in: known.is_some() && !sets_up,
        expires_in_s: known.map(|known| known.expires_in.as_secs()),
        csrf_token: None,
    })
}

/// Signs a browser in: the answer sets a cookie, and contains, this once, the token that goes with
/// it. Scripts do not need this; they send the password as a bearer token.
///
/// While set-up is not finished (`setup_open`), the password is the code in gatewayd's log.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "signing in", request_body = Login,
    responses(
        (status = 200, body = Session),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody, description = "The password is wrong"),
        (status = 403, body = ErrorBody, description = "There is no admin password: read only"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "Too many wrong passwords"),
    ),
)]
pub(super) async fn sign_in(
    extract::State(state): SharedState,
    peer: Peer,
    way: CookiePath,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Response, ApiError> {
    let sets_up = is_setup_open(&state, peer, &headers);
    if sets_up {
        state.check_code(guest(peer, &headers), &login.password)?;
    } else {
        check(&state, guest(peer, &headers), login.password).await?;
    }
    let bound = Bound { origin: origin(&headers), sets_up };
    let signed_in = state.keeper.sign_in(bound, moment().now);
    let seconds = signed_in.expires_in.as_secs();
    let path = way.cookie_path(&state, &headers);
    let set = set_cookie(&signed_in.cookie, &path, seconds, &headers);
    let session = Session {
        admin_enabled: !sets_up,
        signed_in: !sets_up,
        setup_open: sets_up,
        may_set_up: sets_up,
        csrf_token: Some(signed_in.csrf_token),
        expires_in_s: Some(seconds),
    };
    Ok(([(header::SET_COOKIE, set)], Json(session)).into_response())
}

/// Signs a browser out.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "signing in",
    security(("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Done),
        (status = 401, body = ErrorBody, description = "Not signed in"),
        (status = 403, body = ErrorBody, description = "The CSRF token is missing, or there is no \
                                                        admin password"),
    ),
)]
pub(super) async fn sign_out(
    extract::State(state): SharedState,
    _: Browser,
    headers: HeaderMap,
) -> Response {
    cookies(&headers).for_each(|cookie| state.keeper.sign_out(cookie));
    let done = Done { done: true, message: "Signed out.".into() };
    let mut response = Json(done).into_response();
    // For every path where the browser may have one.
    let base = Arc::clone(&state.handles.configs.borrow().api.base_path);
    for path in ["/", &*base].iter().filter(|path| !path.is_empty()) {
        response.headers_mut().append(header::SET_COOKIE, set_cookie("", path, 0, &headers));
    }
    response
}

fn set_cookie(value: &str, path: &str, seconds: u64, headers: &HeaderMap) -> HeaderValue {
    let (name, secure) = match (is_over_tls(headers), path) {
        (true, "/") => (HOST_COOKIE, "; Secure"),
        (true, _) => (COOKIE, "; Secure"),
        (false, _) => (COOKIE, ""),
    };
    let text = format!(
        "{name}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Disconnects a miner, and with it all other miners on its connection.
#[utoipa::path(
    post, path = "/api/v1/miners/{id}/disconnect", tag = "changing",
    params(("id" = u64, Path, description = "As listed in `/api/v1/miners`")),
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Done),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "There is no such miner, or not any more"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn disconnect(
    extract::State(state): SharedState,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let Some(id) = digits.then(|| id.parse::<u64>().ok()).flatten() else {
        return Err(ApiError::bad_request("A miner's id is a number."));
    };
    let gone = || ApiError::not_found(format!("There is no miner {id}: it may have left."));
    let miner = state.handles.roster.miner(id).ok_or_else(gone)?;
    miner.evict();
    tracing::info!(id, peer = %miner.peer, "API: disconnecting a miner");
    let message = format!("Miner {id} ({}) was disconnected.", miner.peer);
    Ok(Json(Done { done: true, message }))
}

/// Asks the nodes for a new block at once.
#[utoipa::path(
    post, path = "/api/v1/notify", tag = "changing",
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Done),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn notify(extract::State(state): SharedState, _: Admin) -> Json<Done> {
    state.handles.templates.notify.notify();
    Json(Done { done: true, message: "Asking the nodes for a new block.".into() })
}

/// Reads gatewayd.toml again, as SIGHUP does.
#[utoipa::path(
    post, path = "/api/v1/reload", tag = "changing",
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = SettingsApplied),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "There is no file to read"),
        (status = 422, body = ErrorBody, description = "`problems` says what is wrong with the file"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn reload(
    extract::State(state): SharedState,
    _: Admin,
) -> Result<Json<SettingsApplied>, ApiError> {
    Ok(Json(applied(state.handles.settings.reload().await?)))
}

/// gatewayd.toml with its comments, and each key's value.
#[utoipa::path(
    get, path = "/api/v1/config", tag = "changing",
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Settings),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "There is no file to read"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn config(
    extract::State(state): SharedState,
    _: Owner,
) -> Result<Json<Settings>, ApiError> {
    let view = state.handles.settings.read().await?;
    Ok(Json(settings(view)))
}

/// Changes gatewayd.toml: checks the new settings, writes them, and applies what can be applied.
#[utoipa::path(
    put, path = "/api/v1/config", tag = "changing", request_body = SettingsChange,
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = SettingsApplied),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It has changed meanwhile, or cannot be written"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "`problems` says what is wrong, or does not work; nothing was changed"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn set_config(
    extract::State(state): SharedState,
    owner: Owner,
    Body(change): Body<SettingsChange>,
) -> Result<Json<SettingsApplied>, ApiError> {
    let what = match (change.text, change.changes) {
        (Some(text), None) => Edit::Text(text),
        (None, Some(changes)) => Edit::Keys(changes),
        _ => {
            let problem = vec!["send either text or changes".into()];
            return Err(SettingsError::Refused(problem).into());
        }
    };
    let (revision, check_only, sets_up) = (change.revision, change.check_only, owner.sets_up);
    let try_changes = change.try_changes;
    let first_password = match change.admin_password {
        Some(password) => Some(first_password(password).await?),
        None => None,
    };
    let sets_password = first_password.is_some() && !check_only;
    let mut change = Change { what, revision, check_only, sets_up, first_password };
    let mut tried = Vec::new();
    if try_changes {
        let outlook = state.handles.settings.look_ahead(change.clone()).await?;
        // What was tried is what is written.
        change.revision = Some(outlook.revision.clone());
        tried = tries::task::run(&state, outlook).await?;
    }
    let done = applied(state.handles.settings.change(change).await?);
    if sets_password {
        // The page signs in with it at once.
        wait_for_password(&state).await;
    }
    Ok(Json(SettingsApplied { tried, ..done }))
}

fn applied(applied: Applied) -> SettingsApplied {
    let Applied { applied, needs_restart, revision } = applied;
    SettingsApplied { applied, needs_restart, revision, tried: Vec::new() }
}

fn settings(view: SettingsView) -> Settings {
    let SettingsView { path, text, values, revision, .. } = view;
    let SettingsView { writable, problems, needs_restart, from_environment, .. } = view;
    Settings { path, text, values, revision, writable, problems, needs_restart, from_environment }
}
