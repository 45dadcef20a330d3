//! Channels that we close because somebody else needs their places.

use std::collections::VecDeque;

use super::{channel::Channel, codec::codes};
use crate::{books::roster::Eviction, work::Reject};

/// Those of one connection.
#[derive(Default)]
pub(super) struct EvictedChannels {
    /// The last first.
    ids: VecDeque<u32>,
}

impl EvictedChannels {
    /// Says that they end, and gives their ids. Where no channel of the connection has had a share,
    /// all of it goes instead: SRI's translator drops a closed channel in silence, so that its miner
    /// would hash for nobody, but it comes back when the connection ends (sv2-apps,
    /// `handle_close_channel`).
    pub(super) fn close(
        &mut self,
        channels: &mut [Channel],
        eviction: &Eviction,
        out: &mut Vec<u8>,
    ) -> Vec<u32> {
        if !channels.iter().any(Channel::is_proven) {
            eviction.want();
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
            eviction.want_channels();
        }
        closed
    }

    /// Why a share of a channel that there is not is refused: what was on its way when we closed
    /// it is late, and not held against anybody.
    pub(super) fn reject_of(&self, id: u32) -> Reject {
        if self.ids.contains(&id) { Reject::StaleWork } else { Reject::NotSubscribed }
    }
}

/// Each looks through all channels; the others go in the next turn.
const EVICTIONS_A_TURN: usize = 64;
/// Of so many that were closed last, late shares are known.
const REMEMBERED_MAX: usize = 64;
