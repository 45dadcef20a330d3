//! What integration tests share: a real node and the real gateway, each a process of its own.
//!
//! Nothing here sleeps to let time pass: waiting means polling a condition until its deadline.

pub mod bitcoind;
pub mod blvm;
pub mod gateway;
pub mod haproxy;
pub mod http;
pub mod openapi;
pub mod templates;

use std::{
    thread,
    time::{Duration, Instant},
};

/// Polls `condition` until it returns a value; at the deadline, panics and says what was awaited.
#[track_caller]
pub fn eventually<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// `eventually`, for a test that runs in tokio.
pub async fn until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    assert!(tokio::time::timeout(timeout, met).await.is_ok(), "not within {timeout:?}: {what}");
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);
