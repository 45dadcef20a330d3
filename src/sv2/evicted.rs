//! Channels that the gateway closes because their places are needed.

use std::collections::VecDeque;

use super::{channel::MiningChannel, codec::codes};
use crate::{books::roster::Eviction, work::Reject};

/// Those of one connection.
#[derive(Default)]
pub(super) struct EvictedChannels {
    /// The latest first.
    ids: VecDeque<u32>,
}

impl EvictedChannels {
    /// Tells the client that they end, and returns their ids. If no channel of the connection has
    /// had a share accepted, the whole connection is closed instead: SRI's translator drops a
    /// closed channel silently, so its miner would hash for nobody, but it reconnects when the
    /// connection ends (sv2-apps, `handle_close_channel`).
    pub(super) fn close(
        &mut self,
        channels: &mut [MiningChannel],
        eviction: &Eviction,
        out: &mut Vec<u8>,
    ) -> Vec<u32> {
        if !channels.iter().any(MiningChannel::is_proven) {
            eviction.request();
            return Vec::new();
        }
        let mut closed = Vec::new();
        let evicted = channels.iter_mut().filter(|channel| channel.is_evicted());
        for channel in evicted.take(EVICTIONS_A_TURN) {
            channel.answer(out);
            channel.close(codes::CHANNEL_CAPACITY_EXHAUSTED, out);
            closed.push(channel.id);
            self.ids.truncate(REMEMBERED_MAX - 1);
            self.ids.push_front(channel.id);
        }
        if closed.len() == EVICTIONS_A_TURN {
            eviction.request_channels();
        }
        closed
    }

    /// Why a share of a missing channel is refused: one in flight when the gateway closed the
    /// channel is late, and counts against nobody.
    pub(super) fn reject_of(&self, id: u32) -> Reject {
        if self.ids.contains(&id) { Reject::StaleWork } else { Reject::NotSubscribed }
    }
}

/// Each searches all channels; the rest go in the next turn.
const EVICTIONS_A_TURN: usize = 64;
/// How many of the latest closed channels are remembered, to recognize their late shares.
const REMEMBERED_MAX: usize = 64;
