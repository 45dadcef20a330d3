//! Who is shut out for crossing limits, and letting them in again.

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

type Shared = extract::State<Arc<State>>;

/// Addresses and networks that are shut out for crossing `[limits]` again and again, the latest first.
#[utoipa::path(
    get, path = "/api/v1/bans", tag = "reading", responses((status = 200, body = Bans)),
)]
pub(super) async fn bans(extract::State(state): Shared) -> Json<Bans> {
    Json(view::bans(&state.handles, &moment()))
}

/// Lifts a ban; what led to it is forgotten.
#[utoipa::path(
    delete, path = "/api/v1/bans/{address}", tag = "changing",
    params((
        "address" = String, Path,
        description = "As `/api/v1/bans` has it; the slash of a network is written as %2F",
    )),
    security(("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses(
        (status = 200, body = Done),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "Nothing of that name is banned, or not any more"),
        (status = 429, body = ErrorBody),
    ),
)]
pub(super) async fn lift(
    extract::State(state): Shared,
    _: Admin,
    Path(address): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let network = address.parse::<Cidr>().map(Network::from).map_err(|_| {
        ApiError::not_found("This is no address or network, as /api/v1/bans has them.")
    })?;
    if !state.handles.roster.limiter().lift(network, moment().now) {
        return Err(ApiError::not_found(format!("{network} is not banned: it may have ended.")));
    }
    tracing::info!("API: lifts the ban of {network}");
    Ok(Json(Done { done: true, message: format!("{network} may connect again.") }))
}
