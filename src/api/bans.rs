//! Who is banned for exceeding limits, and letting them in again.

use std::sync::Arc;

use axum::{
    Json,
    extract::{self, Path},
};

use super::{
    clock::moment,
    error::ApiError,
    extract::Admin,
    shapes::{Bans, Done, ErrorBody},
    state::State,
    view,
};
use crate::work::{Cidr, networks::Network};

type SharedState = extract::State<Arc<State>>;

/// Addresses and networks that are banned for exceeding `[limits]` again and again, the latest
/// first.
#[utoipa::path(
    get, path = "/api/v1/bans", tag = "reading", responses((status = 200, body = Bans)),
)]
pub(super) async fn bans(extract::State(state): SharedState) -> Json<Bans> {
    Json(view::bans(&state.handles, &moment()))
}

/// Lifts a ban and forgets what led to it.
#[utoipa::path(
    delete, path = "/api/v1/bans/{address}", tag = "changing",
    params((
        "address" = String, Path,
        description = "As listed in `/api/v1/bans`; the slash of a network is written as %2F",
    )),
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Done),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "It is not banned, or not any more"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn lift(
    extract::State(state): SharedState,
    _: Admin,
    Path(address): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let network = address.parse::<Cidr>().map(Network::from).map_err(|_| {
        ApiError::not_found("This is not an address or network as listed in /api/v1/bans.")
    })?;
    if !state.handles.roster.limiter().lift(network, moment().now) {
        return Err(ApiError::not_found(format!("{network} is not banned: it may have ended.")));
    }
    tracing::info!("API: lifting the ban of {network}");
    Ok(Json(Done { done: true, message: format!("{network} may connect again.") }))
}
