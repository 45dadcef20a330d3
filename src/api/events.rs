//! What changes, to everybody who listens, each with a short queue of its own.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::response::sse::Event;
use serde::Serialize;
use tokio::sync::mpsc;

/// Where events come together. Shared by the task that makes them and by those who listen.
#[derive(Debug, Default)]
pub(super) struct Hub {
    listeners: Mutex<Vec<mpsc::Sender<Item>>>,
    /// Events that a listener was too slow for; it was dropped with the first.
    dropped: AtomicU64,
}

type Item = Result<Event, Infallible>;

/// An event in the form in which it crosses the wire.
#[derive(Clone, Debug)]
pub(super) struct News {
    name: &'static str,
    /// JSON of one line.
    data: Arc<str>,
}

impl News {
    /// None for what JSON cannot say, which nothing here is.
    pub(super) fn new(name: &'static str, data: &impl Serialize) -> Option<Self> {
        Some(Self { name, data: serde_json::to_string(data).ok()?.into() })
    }

    fn event(&self) -> Item {
        Ok(Event::default().event(self.name).data(&*self.data))
    }
}

impl Hub {
    /// One more listener, who begins with `first`. None: there are too many.
    pub(super) fn listen(&self, first: &[News]) -> Option<mpsc::Receiver<Item>> {
        let mut listeners = self.lock();
        listeners.retain(|listener| !listener.is_closed());
        if listeners.len() >= LISTENERS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        for news in first {
            // Never full: there are fewer of these than the queue takes.
            let _ = sender.try_send(news.event());
        }
        listeners.push(sender);
        Some(receiver)
    }

    /// Tells everybody. Who does not keep up is cut off, and connects again if it still wants to.
    pub(super) fn tell(&self, news: &News) {
        self.lock().retain(|listener| match listener.try_send(news.event()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Relaxed);
                false
            }
        });
    }

    pub(super) fn has_listeners(&self) -> bool {
        self.lock().iter().any(|listener| !listener.is_closed())
    }

    /// The end: nobody hears more.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Item>>> {
        // Nothing under the lock can leave it half done.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Browsers keep one for each open page.
const LISTENERS_MAX: usize = 64;
/// Half a minute of a page whose phone sleeps; a few kilobytes each.
const QUEUE_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> News {
        News::new("status", &1).unwrap()
    }

    #[test]
    fn who_does_not_read_is_dropped_and_counted() {
        let hub = Hub::default();
        let mut slow = hub.listen(&[news()]).unwrap();
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
    fn listeners_are_bounded_and_places_come_back() {
        let hub = Hub::default();
        let mut all: Vec<_> = (0..LISTENERS_MAX).map(|_| hub.listen(&[]).unwrap()).collect();
        assert!(hub.listen(&[]).is_none());
        all.pop();
        assert!(hub.listen(&[]).is_some());
    }
}
