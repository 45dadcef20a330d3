//! Groups of extended channels, which get the same jobs in one message.
//!
//! A pooled coinbase holds the difficulty in one byte, so there is a group for each value of it,
//! and a channel moves when vardiff changes its byte. Standard channels never get a group's jobs:
//! their work is their own.

use super::{
    channel::{ChannelKind, FutureJob, MiningChannel},
    codec::{Message, Seq64K, SetGroupChannel},
};
use crate::work::Work;

/// Extended channels with one difficulty byte.
#[derive(Debug)]
pub(super) struct ChannelGroup {
    pub(super) id: u32,
    pub(super) target_byte: u8,
    pub(super) members: u32,
    /// The future job that was sent to the group by its own id.
    pub(super) ahead: Option<FutureJob>,
}

impl ChannelGroup {
    /// True when the group can be addressed as such: peers know a group only by its members.
    pub(super) fn is_shared(&self) -> bool {
        self.members > 1
    }
}

/// The groups of a connection. There are few: a miner's difficulties span a dozen powers of two.
#[derive(Debug, Default)]
pub(super) struct ChannelGroups {
    pub(super) all: Vec<ChannelGroup>,
}

impl ChannelGroups {
    pub(super) fn get(&mut self, id: u32) -> Option<&mut ChannelGroup> {
        self.all.iter_mut().find(|group| group.id == id)
    }

    /// Adds a channel; `new_id` numbers a new group.
    pub(super) fn join(&mut self, target_byte: u8, new_id: impl FnOnce() -> u32) -> u32 {
        if let Some(group) = self.all.iter_mut().find(|group| group.target_byte == target_byte) {
            group.members += 1;
            if group.members == 2 {
                // The future job of its one member is not the group's.
                group.ahead = None;
            }
            return group.id;
        }
        let id = new_id();
        self.all.push(ChannelGroup { id, target_byte, members: 1, ahead: None });
        id
    }

    pub(super) fn leave(&mut self, id: u32) {
        if let Some(group) = self.get(id) {
            group.members = group.members.saturating_sub(1);
            group.ahead = None;
        }
        self.all.retain(|group| group.members > 0);
    }

    /// Moves those of the channels that have outgrown their groups, and tells the client. They must
    /// be sent their new targets next. A channel that was moved, or whose group was announced
    /// again, has forgotten its future jobs (like in SRI's translator).
    pub(super) fn settle(
        &mut self,
        channels: &mut [MiningChannel],
        work: &Work,
        moves: impl Fn(&MiningChannel) -> bool,
        mut new_id: impl FnMut() -> u32,
        out: &mut Vec<u8>,
    ) {
        let mut touched = Vec::new();
        for channel in
            channels.iter_mut().filter(|it| it.kind == ChannelKind::Extended && moves(it))
        {
            let byte = channel.target_byte(work);
            if self.get(channel.group).is_some_and(|group| group.target_byte == byte) {
                continue;
            }
            touched.push(channel.group);
            self.leave(channel.group);
            channel.group = self.join(byte, &mut new_id);
            touched.push(channel.group);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(group) = self.get(id) else { continue };
            group.ahead = None;
            let members = channels.iter_mut().filter(|channel| channel.group == id);
            let ids: Vec<u32> = members
                .map(|channel| {
                    channel.ahead = None;
                    channel.id
                })
                .collect();
            let channel_ids = Seq64K::new(&ids).unwrap_or_default();
            SetGroupChannel { group_channel_id: id, channel_ids }.append(out);
        }
    }
}
