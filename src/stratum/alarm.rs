//! Wakes a connection for anything other than its socket.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
};

/// Watches for new work and the end without a lock per share: their futures are polled once, and
/// again only after one of them has woken.
pub(super) struct Alarm<'a, C, T> {
    changed: Pin<&'a mut C>,
    stopped: Pin<&'a mut T>,
    bell: Option<Arc<RecordingWaker>>,
}

/// Wakes the connection, and remembers that it did. A watch also wakes for a value that was already
/// taken, and must then be polled again: it has forgotten who is waiting.
struct RecordingWaker {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for RecordingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Release);
        self.task.wake_by_ref();
    }
}

impl<'a, C: Future, T: Future> Alarm<'a, C, T> {
    pub(super) fn new(changed: Pin<&'a mut C>, stopped: Pin<&'a mut T>) -> Self {
        Self { changed, stopped, bell: None }
    }

    /// Ready at most once, when something happened before the alarm could be set. The flag is true
    /// when the waker was replaced because it wakes a different task than before.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> (Poll<()>, bool) {
        let known = self.bell.take().filter(|bell| bell.task.will_wake(cx.waker()));
        let bell = match known {
            Some(bell) if !bell.rung.swap(false, AcqRel) => {
                self.bell = Some(bell);
                return (Poll::Pending, false);
            }
            Some(bell) => bell,
            None => {
                Arc::new(RecordingWaker { rung: AtomicBool::new(false), task: cx.waker().clone() })
            }
        };
        let waker = Waker::from(Arc::clone(&bell));
        self.bell = Some(bell);
        let mut cx = TaskContext::from_waker(&waker);
        let changed = self.changed.as_mut().poll(&mut cx).is_ready();
        let stopped = self.stopped.as_mut().poll(&mut cx).is_ready();
        (if changed || stopped { Poll::Ready(()) } else { Poll::Pending }, true)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::poll_fn,
        pin::pin,
    };

    use super::*;

    /// A watch whose value was already read wakes once more for nothing, and then no longer waits:
    /// the next work was only noticed at the next timer (seen with 1,000 miners on a real node).
    #[test]
    fn an_alarm_that_woke_for_nothing_is_set_again() {
        let polls = Cell::new(0);
        let waker = RefCell::new(None::<Waker>);
        let changed = pin!(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            *waker.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let stopped = pin!(std::future::pending::<()>());
        let mut alarm = Alarm::new(changed, stopped);
        // A clone is the same waker as its clones; depending on how it is compiled, the original
        // may not be.
        let own = Waker::noop().clone();
        let mut cx = TaskContext::from_waker(&own);
        assert!(alarm.poll(&mut cx).0.is_pending());
        assert!(alarm.poll(&mut cx).0.is_pending());
        assert_eq!(polls.get(), 1, "no lock per share");
        waker.take().unwrap().wake();
        assert!(alarm.poll(&mut cx).0.is_pending());
        assert_eq!(polls.get(), 2);
        assert!(alarm.poll(&mut cx).0.is_pending());
        assert_eq!(polls.get(), 2);
    }
}
