//! How accepted shares get to the pool: a bounded queue in which each connection has a part.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::mpsc;

use super::Share;

/// Shares of one read of one miner's connection.
#[derive(Debug)]
pub struct ShareBatch {
    pub(crate) shares: Vec<Share>,
    /// How many of the sender's batches are waiting.
    waiting: Arc<AtomicUsize>,
}

impl From<Vec<Share>> for ShareBatch {
    /// A batch that belongs to no connection.
    fn from(shares: Vec<Share>) -> Self {
        Self { shares, waiting: Arc::new(AtomicUsize::new(1)) }
    }
}

impl Drop for ShareBatch {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

/// One connection's access to the queue. A connection that floods it uses up its own part, not the
/// others'.
#[derive(Debug)]
pub(crate) struct ShareLane {
    queue: mpsc::Sender<ShareBatch>,
    waiting: Arc<AtomicUsize>,
}

impl ShareLane {
    pub(crate) fn new(queue: mpsc::Sender<ShareBatch>) -> Self {
        Self { queue, waiting: Arc::default() }
    }

    /// Queues shares; false when there was no room for them, and they are lost.
    pub(crate) fn send(&self, shares: Vec<Share>) -> bool {
        // Half of the queue is for those who have nothing in it.
        let is_scarce = self.queue.capacity() < self.queue.max_capacity() / 2;
        let most = if is_scarce { 1 } else { LANE_MAX };
        if self.waiting.load(Relaxed) >= most {
            return false;
        }
        self.waiting.fetch_add(1, Relaxed);
        // A batch that finds no room is uncounted when it is dropped.
        self.queue.try_send(ShareBatch { shares, waiting: Arc::clone(&self.waiting) }).is_ok()
    }
}

/// How many batches of one connection may wait: what a busy proxy sends while the pool's task is
/// busy for a tenth of a second.
const LANE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_leaves_room_for_everybody_else() {
        let (sender, mut queue) = mpsc::channel(256);
        let flooders: Vec<_> = (0..20).map(|_| ShareLane::new(sender.clone())).collect();
        let sent =
            (0..1000).flat_map(|_| &flooders).filter(|flooder| flooder.send(Vec::new())).count();
        assert!(sent < 256, "{sent}");
        let honest: Vec<_> = (0..100).map(|_| ShareLane::new(sender.clone())).collect();
        assert!(honest.iter().all(|honest| honest.send(Vec::new())));
        // Only its own batches are limited, so it can send again once they are read.
        assert!(!flooders[0].send(Vec::new()));
        while queue.try_recv().is_ok() {}
        assert!((0..LANE_MAX).all(|_| flooders[0].send(Vec::new())));
        assert!(!flooders[0].send(Vec::new()));
    }
}
