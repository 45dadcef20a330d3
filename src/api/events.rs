//! Sends changes to all listeners, each with a short queue of its own.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::response::sse::Event;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{auth::network, places::Places};

/// Distributes events. Shared by the task that makes them and by the listeners.
#[derive(Debug)]
pub(super) struct Hub {
    listeners: Mutex<Places<mpsc::Sender<Item>>>,
    /// Events that a listener was too slow for; it was dropped with the first of them.
    dropped: AtomicU64,
}

impl Default for Hub {
    fn default() -> Self {
        Self { listeners: Mutex::new(Places::new(LISTENERS_MAX)), dropped: AtomicU64::new(0) }
    }
}

type Item = Result<Event, Infallible>;

/// An event in the form in which it is sent.
#[derive(Clone, Debug)]
pub(super) struct ApiEvent {
    name: &'static str,
    /// JSON on one line.
    data: Arc<str>,
}

impl ApiEvent {
    /// None if it cannot be written as JSON, which does not happen here.
    pub(super) fn new(name: &'static str, data: &impl Serialize) -> Option<Self> {
        Some(Self { name, data: serde_json::to_string(data).ok()?.into() })
    }

    fn event(&self) -> Item {
        Ok(Event::default().event(self.name).data(&*self.data))
    }
}

impl Hub {
    /// Adds a listener at `ip`, whose first events are `first`. When places run out, one listener
    /// of the address with the most is cut off.
    pub(super) fn listen(&self, ip: IpAddr, first: &[ApiEvent]) -> mpsc::Receiver<Item> {
        let mut listeners = self.lock();
        let gone = listeners.things().filter(|(_, it)| it.is_closed()).map(|(id, _)| id);
        for id in gone.collect::<Vec<_>>() {
            listeners.leave(id);
        }
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        for news in first {
            // Never full: these are fewer than the queue holds.
            let _ = sender.try_send(news.event());
        }
        listeners.enter(network(ip), sender, |_| false);
        receiver
    }

    /// Tells everybody. Who does not keep up is cut off, and connects again if it still wants to.
    pub(super) fn tell(&self, news: &ApiEvent) {
        let mut listeners = self.lock();
        let fails = |listener: &mpsc::Sender<Item>| match listener.try_send(news.event()) {
            Ok(()) => false,
            Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Relaxed);
                true
            }
        };
        let gone = listeners.things().filter(|(_, it)| fails(it)).map(|(id, _)| id);
        for id in gone.collect::<Vec<_>>() {
            listeners.leave(id);
        }
    }

    pub(super) fn has_listeners(&self) -> bool {
        self.lock().things().any(|(_, listener)| !listener.is_closed())
    }

    /// The end: nobody hears more.
    pub(super) fn close(&self) {
        *self.lock() = Places::new(LISTENERS_MAX);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Places<mpsc::Sender<Item>>> {
        // Nothing under the lock can leave it half done.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Browsers keep one for each open page.
const LISTENERS_MAX: usize = 64;
/// Half a minute of events for a page whose phone sleeps; a few kilobytes each.
const QUEUE_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn news() -> ApiEvent {
        ApiEvent::new("status", &1).unwrap()
    }

    #[test]
    fn who_does_not_read_is_dropped_and_counted() {
        let hub = Hub::default();
        let mut slow = hub.listen(HERE, &[news()]);
        for _ in 0..QUEUE_MAX - 1 {
            hub.tell(&news());
        }
        assert_eq!(hub.dropped(), 0);
        hub.tell(&news());
        assert_eq!(hub.dropped(), 1);
        let mut read = 0;
        while slow.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, QUEUE_MAX);
        assert!(!hub.has_listeners());
    }

    #[test]
    fn nobody_takes_all_places_by_listening_without_end() {
        let hub = Hub::default();
        let mut own = hub.listen(IpAddr::from([192, 168, 1, 2]), &[]);
        let mut all: Vec<_> = (0..2 * LISTENERS_MAX).map(|_| hub.listen(HERE, &[])).collect();
        let mut late = hub.listen(IpAddr::from([192, 168, 1, 3]), &[]);
        let is_on = |it: &mut mpsc::Receiver<Item>| {
            it.try_recv().err() == Some(mpsc::error::TryRecvError::Empty)
        };
        assert!(is_on(&mut own) && is_on(&mut late), "other addresses listen on");
        let left: Vec<_> = all.iter_mut().map(is_on).collect();
        assert_eq!(left.iter().filter(|it| **it).count(), LISTENERS_MAX - 2);
        assert!(!left[0] && left[2 * LISTENERS_MAX - 1], "the oldest go first");
    }
}
