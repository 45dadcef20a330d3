//! Endpoints that scripts and node appliances know from datum_gateway, only for this machine and
//! private networks.

use std::sync::{Arc, PoisonError};

use axum::{
    Json, extract,
    http::{HeaderMap, StatusCode},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    clock::moment,
    error::ApiError,
    peer::{Peer, is_local},
    shapes::ErrorBody,
    state::State,
};
use crate::work::Allowance;

type SharedState = extract::State<Arc<State>>;

/// Reports a new block (`blocknotify=curl -s http://127.0.0.1:7152/NOTIFY`): the nodes are asked at
/// once.
#[utoipa::path(
    get, path = "/NOTIFY", tag = "as datum_gateway", operation_id = "blocknotify",
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "OK"),
        (status = 403, body = ErrorBody, description = "Not from this machine or a private network"),
        (status = 429, body = ErrorBody, description = "Too often"),
    ),
)]
pub(super) async fn notify(
    extract::State(state): SharedState,
    peer: Peer,
    headers: HeaderMap,
) -> Result<&'static str, ApiError> {
    local_only(peer, &headers)?;
    let may = {
        let mut notices = state.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.take(moment().now)
    };
    if !may {
        let message = "The nodes were asked a moment ago: once per block is enough.";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-often", message));
    }
    state.handles.templates.notify.notify();
    Ok("OK")
}

/// The same.
#[utoipa::path(
    post, path = "/NOTIFY", tag = "as datum_gateway", operation_id = "blocknotify_post",
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "OK"),
        (status = 403, body = ErrorBody, description = "Not from this machine or a private network"),
        (status = 429, body = ErrorBody, description = "Too often"),
    ),
)]
pub(super) async fn notify_post(
    state: SharedState,
    peer: Peer,
    headers: HeaderMap,
) -> Result<&'static str, ApiError> {
    notify(state, peer, headers).await
}

/// What Umbrel's home screen shows.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Widget {
    r#type: &'static str,
    refresh: &'static str,
    link: &'static str,
    items: Vec<WidgetItem>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct WidgetItem {
    title: &'static str,
    text: String,
    subtext: &'static str,
}

/// Figures for Umbrel's widget.
#[utoipa::path(
    get, path = "/umbrel-api", tag = "as datum_gateway",
    responses(
        (status = 200, body = Widget),
        (status = 403, body = ErrorBody, description = "Not from this machine or a private network"),
    ),
)]
pub(super) async fn umbrel(
    extract::State(state): SharedState,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Json<Widget>, ApiError> {
    local_only(peer, &headers)?;
    let (counters, totals) = (state.handles.counters.view(), state.handles.ledger.totals());
    // In the C gateway's units, which other programs parse.
    let tera = state.handles.ledger.hashrate().m5 / 1e12;
    let (hashrate, unit) = match tera {
        1e6.. => (tera / 1e6, "Eh/s"),
        1e3.. => (tera / 1e3, "Ph/s"),
        _ => (tera, "Th/s"),
    };
    let shares = counters.accepted + counters.rejected_total();
    let rejected =
        if shares == 0 { 0.0 } else { 100.0 * counters.rejected_total() as f64 / shares as f64 };
    let best = totals.best.map_or(0.0, |best| best.difficulty);
    let item = |title, text, subtext| WidgetItem { title, text, subtext };
    Ok(Json(Widget {
        r#type: "four-stats",
        refresh: "30s",
        link: "",
        items: vec![
            item("Connections", counters.connections.to_string(), "Worker"),
            item("Hashrate", format!("{hashrate:.2}"), unit),
            item("Best share", short(best), "difficulty"),
            item("Rejected", format!("{rejected:.2}"), "%"),
        ],
    }))
}

fn local_only(peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
    if is_local(peer, headers) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "This is only for this machine and private networks, but you (or a client in front of your \
         proxy) come from elsewhere.",
    ))
}

/// Three digits and a letter, as miners show difficulties.
fn short(value: f64) -> String {
    const LETTERS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut letter = 0;
    while value >= 1000.0 && letter + 1 < LETTERS.len() {
        value /= 1000.0;
        letter += 1;
    }
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", LETTERS[letter])
}

/// A pace that does a node no harm.
pub(super) type Notices = Allowance<NOTICE_US, { NOTICES_AT_ONCE - 1 }>;

/// Several nodes may report the same block, and test networks make many.
const NOTICES_AT_ONCE: u32 = 20;
const NOTICE_US: u64 = 200_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn notices_have_a_pace() {
        let mut notices = Notices::default();
        let start = moment().now;
        assert_eq!((0..30).filter(|_| notices.take(start)).count(), 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| notices.take(later)).count(), 5);
    }

    #[test]
    fn difficulties_are_short() {
        let shorts = [0.0, 0.5, 12.34, 999.4, 1234.0, 4.8123e9].map(short);
        assert_eq!(shorts, ["0.00", "0.50", "12.3", "999", "1.23k", "4.81G"]);
    }
}
