//! Limits the memory of answers that have not been read yet, in total and per address.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{self, Request},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};

use super::{
    error::ApiError,
    peer::{Peer, guest},
    state::State,
};

/// Bytes of answers being sent.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Reserved bytes, until this is dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    ip: IpAddr,
    len: usize,
}

/// Sends an answer if there is room for it. There always is for small ones.
pub(super) async fn hold(
    extract::State(state): extract::State<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let ip = peer.map(|peer| guest(peer, request.headers()).client);
    let response = next.run(request).await;
    let len = response.body().size_hint().exact().unwrap_or(0);
    let (Some(ip), Ok(len)) = (ip, usize::try_from(len)) else { return response };
    if len < SMALL {
        return response;
    }
    match Budget::take(&state.budget, ip, len) {
        Some(share) => response.map(|inner| Body::new(Holding { inner, _share: share })),
        None => {
            let message = "Earlier answers to your address have not been read yet: read them, or \
                           try again in a moment.";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).into_response()
        }
    }
}

impl Budget {
    fn take(budget: &Arc<Self>, ip: IpAddr, len: usize) -> Option<Share> {
        let mut held = budget.held();
        let own = held.by_address.get(&ip).copied().unwrap_or(0);
        // An address without pending answers always gets one, however long.
        let fits = own == 0 || own + len <= ADDRESS_MAX;
        if !fits || held.all + len > ALL_MAX {
            return None;
        }
        held.all += len;
        *held.by_address.entry(ip).or_default() += len;
        drop(held);
        Some(Share { budget: Arc::clone(budget), ip, len })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No panic can leave the data inconsistent under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.budget.held();
        held.all = held.all.saturating_sub(self.len);
        if let Some(own) = held.by_address.get_mut(&self.ip) {
            *own = own.saturating_sub(self.len);
            if *own == 0 {
                held.by_address.remove(&self.ip);
            }
        }
    }
}

/// A body that keeps its share of the budget for as long as it exists.
struct Holding {
    inner: Body,
    _share: Share,
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Too small to count: 256 connections have a few megabytes of these at most.
const SMALL: usize = 16 * 1024;
/// Enough for a browser that has all pages open at once.
const ADDRESS_MAX: usize = 12 * 1024 * 1024;
/// Leaves enough for mining on a small machine.
const ALL_MAX: usize = 48 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_hold_what_others_need() {
        let budget = Arc::new(Budget::default());
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let mut shares = Vec::new();
        while let Some(share) = Budget::take(&budget, ip(1), 4 << 20) {
            shares.push(share);
        }
        assert_eq!(shares.len(), 3);
        let other = Budget::take(&budget, ip(2), 20 << 20).unwrap();
        assert!(Budget::take(&budget, ip(3), 20 << 20).is_none(), "more than all may hold");
        drop(other);
        let again = Budget::take(&budget, ip(3), 20 << 20).unwrap();
        shares.clear();
        assert!(Budget::take(&budget, ip(1), 4 << 20).is_some());
        drop(again);
        let held = budget.held();
        assert!(held.all == 0 && held.by_address.is_empty(), "{held:?}");
    }
}
