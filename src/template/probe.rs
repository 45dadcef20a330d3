//! Checks several times a second whether a node answers at all.
//!
//! `uptime` costs a node nothing and needs none of its locks: a node that is making a template or
//! connecting a block on a slow machine answers it at once, a frozen one does not.

use std::time::Duration;

use tokio::{
    pin,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::debug;

use super::SourceOutput;
use crate::node::{
    RpcError, TipHint, TipHintSource,
    conn::{NO_PARAMS, RpcClient},
    tip_hint::send_hint,
};

/// Keeps [`NodeStatus::late_since`](super::NodeStatus::late_since) up to date.
pub(super) async fn watch(
    mut client: RpcClient,
    output: SourceOutput,
    hints: mpsc::Sender<TipHint>,
) {
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut recent = Recent::default();
    while !hints.is_closed() {
        pace.tick().await;
        let asked_at = Instant::now();
        let call = client.call("uptime", NO_PARAMS, GIVE_UP);
        pin!(call);
        let answer = match timeout(recent.late_after(), &mut call).await {
            Ok(answer) => answer,
            Err(_) => {
                set_late(&output, Some(asked_at));
                // Its answer is awaited: it tells when the node is back.
                call.await
            }
        };
        recent.add(asked_at.elapsed());
        match answer {
            Err(RpcError::Forbidden(method)) => {
                // Each refused call would be a line in the node's log.
                debug!(node = %output.status().name, "{method} is not allowed, so a node that \
                                                      hangs is noticed late");
                set_late(&output, None);
                return;
            }
            Err(
                error @ (RpcError::Io { .. } | RpcError::Connect { .. } | RpcError::Timeout { .. }),
            ) => {
                debug!(node = %output.status().name, %error, "the node does not answer");
                set_late(&output, Some(asked_at));
                send_hint(&hints, TipHintSource::SlowPoll);
            }
            // Any answer is a sign of life.
            Ok(_) | Err(_) => set_late(&output, None),
        }
    }
}

fn set_late(output: &SourceOutput, since: Option<Instant>) {
    if output.status().late_since.is_some() != since.is_some() {
        output.update(|status| status.late_since = since.map(Instant::into_std));
    }
}

/// How long the last answers took. A node that always takes long is slow, not silent.
#[derive(Debug, Default)]
struct Recent([Duration; 4]);

impl Recent {
    fn add(&mut self, took: Duration) {
        self.0.rotate_left(1);
        self.0[3] = took;
    }

    fn late_after(&self) -> Duration {
        let usual = self.0.iter().min().copied().unwrap_or_default();
        LATE_AFTER.max(usual * 2)
    }
}

/// Together with [`LATE_AFTER`] below a second: that is how soon another node should take over.
const EVERY: Duration = Duration::from_millis(250);
/// The difference between a busy machine and a dead one.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(500);
/// By then the session has given up on the node.
const GIVE_UP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_always_takes_long_is_not_late() {
        let mut recent = Recent::default();
        assert_eq!(recent.late_after(), LATE_AFTER);
        for _ in 0..3 {
            recent.add(Duration::from_secs(2));
            assert_eq!(recent.late_after(), LATE_AFTER);
        }
        recent.add(Duration::from_secs(3));
        assert_eq!(recent.late_after(), Duration::from_secs(4));
        // One answer at once, and it is known to be able to.
        recent.add(Duration::from_millis(1));
        assert_eq!(recent.late_after(), LATE_AFTER);
    }
}
