//! What anybody may read.
#![expect(unused_qualifications, reason = "the macros of utoipa write them")]

use std::{sync::Arc, time::Duration};

use axum::{
    Json, extract,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::{
    clock::moment,
    error::ApiError,
    extract::Params,
    metrics, news,
    peer::{Peer, guest},
    shapes::{
        Blocks, ErrorBody, Health, History, Metric, Miners, Nodes, Pools, Readiness, Rejects,
        Status, Work, Workers,
    },
    state::State,
    view::{self, HistoryRequest},
};
use crate::config::parse_duration;

type SharedState = extract::State<Arc<State>>;

/// This process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn healthz(extract::State(state): SharedState) -> Json<Health> {
    let began = state.handles.roster.began();
    let uptime = moment().now.saturating_duration_since(began);
    Json(Health { alive: true, version: env!("CARGO_PKG_VERSION"), uptime_s: uptime.as_secs() })
}

/// Whether miners that connect now would get work that pays: templates are fresh, and shares count,
/// by the pool or by `pooling.when_down`.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = Readiness),
        (status = 503, body = Readiness, description = "Not now; `reasons` says why"),
    ),
)]
pub(super) async fn readyz(extract::State(state): SharedState) -> (StatusCode, Json<Readiness>) {
    let readiness = view::readiness(&state.handles, &moment());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// The certificate of the gateway's own TLS authority (`stratum.tls`), as PEM: miners need it to
/// verify the gateway.
#[utoipa::path(
    get, path = "/api/v1/stratum/ca.pem", tag = "reading",
    responses(
        (status = 200, body = String, content_type = CA_TYPE),
        (status = 404, body = ErrorBody, description = "TLS is off, or its certificate is from \
                                                        another authority"),
    ),
)]
pub(super) async fn stratum_ca(extract::State(state): SharedState) -> Result<Response, ApiError> {
    let Some(certificate) = state.handles.tls.borrow().authority.clone() else {
        return Err(ApiError::not_found(
            "There is no authority: stratum.tls.enabled is false, or certificate_file is set.",
        ));
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CA_TYPE)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(CA_NAME)),
    ];
    Ok((headers, certificate.to_string()).into_response())
}

/// Metrics in the text format of OpenMetrics, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, body = String, content_type = metrics::CONTENT_TYPE),
        (status = 404, body = ErrorBody, description = "`api.metrics` is off"),
    ),
)]
pub(super) async fn metrics(extract::State(state): SharedState) -> Result<Response, ApiError> {
    if !state.handles.configs.borrow().api.metrics {
        return Err(ApiError::not_found("api.metrics is false in gatewayd.toml."));
    }
    let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, content_type)], metrics::render(&state)).into_response())
}

/// Everything at a glance.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "reading", responses((status = 200, body = Status)),
)]
pub(super) async fn status(extract::State(state): SharedState) -> Json<Status> {
    Json(state.status())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MinersQuery {
    /// Only miners with ids greater than this: `next_after` of the previous answer.
    #[serde(default)]
    after: u64,
    /// At most this many.
    #[serde(default = "miners_max")]
    #[param(minimum = 1, maximum = 5000, default = 5000)]
    limit: usize,
}

/// Live connections and Stratum V2 channels, by id. An answer has some 4 MB at most: if miners have
/// many names, it contains fewer than `limit`.
#[utoipa::path(
    get, path = "/api/v1/miners", tag = "reading", params(MinersQuery),
    responses((status = 200, body = Miners), (status = 400, body = ErrorBody)),
)]
pub(super) async fn miners(
    extract::State(state): SharedState,
    Params(query): Params<MinersQuery>,
) -> Result<Json<Miners>, ApiError> {
    let limit = within("limit", query.limit, miners_max())?;
    // As documented: some languages have no larger whole numbers.
    if i64::try_from(query.after).is_err() {
        return Err(ApiError::bad_request("after is not a valid miner id."));
    }
    Ok(Json(view::miners(&state.handles, query.after, limit, &moment())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WorkersQuery {
    /// At most this many: those seen last.
    #[serde(default = "workers_max")]
    #[param(minimum = 1, maximum = 5000, default = 5000)]
    limit: usize,
}

/// Everybody who has sent a share, across connections and restarts, highest hashrate first.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "reading", params(WorkersQuery),
    responses((status = 200, body = Workers), (status = 400, body = ErrorBody)),
)]
pub(super) async fn workers(
    extract::State(state): SharedState,
    Params(query): Params<WorkersQuery>,
) -> Result<Json<Workers>, ApiError> {
    let limit = within("limit", query.limit, workers_max())?;
    let records = state.handles.ledger.workers(limit).await;
    Ok(Json(view::workers(&state.handles, records, &moment())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    #[param(inline)]
    metric: Metric,
    /// How far back: a number and s, m, h or d.
    #[serde(default = "window")]
    #[param(pattern = "^[1-9][0-9]{0,5}[smhd]$", default = "24h")]
    window: String,
    /// Only this worker.
    #[param(max_length = 256)]
    worker: Option<String>,
    /// Additional series for this many of the busiest workers.
    #[serde(default)]
    #[param(maximum = 12, default = 0)]
    top: usize,
}

/// Series for charts.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "reading", params(HistoryQuery),
    responses(
        (status = 200, body = History),
        (status = 400, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "The history cannot be read at the moment"),
    ),
)]
pub(super) async fn history(
    extract::State(state): SharedState,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<History>, ApiError> {
    let (window, worker) = (parse_window(&query.window)?, known_length(query.worker)?);
    if query.top > TOP_MAX {
        return Err(ApiError::bad_request("top is at most 12."));
    }
    let request = HistoryRequest { metric: query.metric, window, worker, top: query.top };
    Ok(Json(view::history(&state.handles, request).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RejectsQuery {
    /// How far back: a number and s, m, h or d.
    #[serde(default = "window")]
    #[param(pattern = "^[1-9][0-9]{0,5}[smhd]$", default = "24h")]
    window: String,
    /// Only this worker.
    #[param(max_length = 256)]
    worker: Option<String>,
}

/// Why shares were rejected, across restarts.
#[utoipa::path(
    get, path = "/api/v1/rejects", tag = "reading", params(RejectsQuery),
    responses(
        (status = 200, body = Rejects),
        (status = 400, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "The history cannot be read at the moment"),
    ),
)]
pub(super) async fn rejects(
    extract::State(state): SharedState,
    Params(query): Params<RejectsQuery>,
) -> Result<Json<Rejects>, ApiError> {
    let (window, worker) = (parse_window(&query.window)?, known_length(query.worker)?);
    let found = state.handles.ledger.rejects(worker.clone(), window).await?;
    let by_reason = found.into_iter().collect();
    Ok(Json(Rejects { window_s: window.as_secs(), worker, by_reason }))
}

/// The miners' current work, and whom it would pay.
#[utoipa::path(
    get, path = "/api/v1/work", tag = "reading", responses((status = 200, body = Work)),
)]
pub(super) async fn work(extract::State(state): SharedState) -> Json<Work> {
    Json(view::work(&state.handles, &moment()))
}

/// The DATUM pools, and what became of the shares that they were meant for.
#[utoipa::path(
    get, path = "/api/v1/pool", tag = "reading", responses((status = 200, body = Pools)),
)]
pub(super) async fn pool(extract::State(state): SharedState) -> Json<Pools> {
    Json(view::pools(&state.handles, &moment()))
}

/// The operator's nodes.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "reading", responses((status = 200, body = Nodes)),
)]
pub(super) async fn nodes(extract::State(state): SharedState) -> Json<Nodes> {
    Json(view::nodes(&state.handles, &moment()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BlocksQuery {
    /// At most this many: the latest.
    #[serde(default = "blocks_default")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
}

/// Found blocks, newest first, and what nodes said of them.
#[utoipa::path(
    get, path = "/api/v1/blocks", tag = "reading", params(BlocksQuery),
    responses((status = 200, body = Blocks), (status = 400, body = ErrorBody)),
)]
pub(super) async fn blocks(
    extract::State(state): SharedState,
    Params(query): Params<BlocksQuery>,
) -> Result<Json<Blocks>, ApiError> {
    let limit = within("limit", query.limit, BLOCKS_MAX)?;
    let records = state.handles.ledger.blocks(limit).await;
    Ok(Json(view::blocks(&state.handles, records)))
}

/// Changes as they happen (server-sent events).
///
/// Each event's data is JSON: `status` (every two seconds) is the same as `/api/v1/status`, `pool`
/// as `/api/v1/pool`, `nodes` as `/api/v1/nodes`, `block` one of `/api/v1/blocks`, `template` the
/// one in `/api/v1/work`, and `warnings` those of the status. All except `block` are sent once at
/// the beginning. A client that does not keep up is disconnected; so is, when places run out, the
/// oldest client of the address that has the most.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "reading",
    responses((status = 200, body = String, content_type = "text/event-stream")),
)]
pub(super) async fn events(
    extract::State(state): SharedState,
    peer: Peer,
    headers: HeaderMap,
) -> Response {
    let receiver = state.hub.listen(guest(peer, &headers).client, &news::greeting(&state));
    let events = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default());
    // Otherwise proxies like nginx would hold events back.
    let unbuffered = [("x-accel-buffering", HeaderValue::from_static("no"))];
    (unbuffered, events).into_response()
}

fn parse_window(text: &str) -> Result<Duration, ApiError> {
    let has_unit = text.ends_with(['s', 'm', 'h', 'd']) && !text.ends_with("ms");
    if !has_unit || !(2..=7).contains(&text.len()) || text.starts_with('0') {
        let message = "window should be a number and s, m, h or d, like 24h.";
        return Err(ApiError::bad_request(message));
    }
    // None: further back than any time that exists.
    Ok(parse_duration(text).unwrap_or(WINDOW_MAX).clamp(WINDOW_MIN, WINDOW_MAX))
}

fn known_length(worker: Option<String>) -> Result<Option<String>, ApiError> {
    if worker.as_ref().is_some_and(|name| name.chars().count() > WORKER_LEN_MAX) {
        return Err(ApiError::bad_request("worker has at most 256 characters."));
    }
    Ok(worker)
}

fn within(name: &str, value: usize, most: usize) -> Result<usize, ApiError> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::bad_request(format!("{name} must be 1 to {most}.")))
}

/// 5,000 miners are 2 MB of JSON, if they have few names.
fn miners_max() -> usize {
    5_000
}

fn workers_max() -> usize {
    5_000
}

fn blocks_default() -> usize {
    100
}

fn window() -> String {
    "24h".into()
}

const BLOCKS_MAX: usize = 1_000;
const TOP_MAX: usize = 12;
/// Longer than any accepted user name.
const WORKER_LEN_MAX: usize = 256;
const WINDOW_MIN: Duration = Duration::from_secs(60);
/// Ten years: the ledger keeps no more.
const WINDOW_MAX: Duration = Duration::from_secs(315_360_000);
/// The name under which browsers save it, in a form that AxeOS accepts.
const CA_TYPE: &str = "application/x-pem-file";
const CA_NAME: &str = "attachment; filename=\"gatewayd-ca.pem\"";
