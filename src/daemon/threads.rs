//! The threads that serve miners, apart from those for nodes, blocks, the pool and the dashboard: a
//! flood of messages from miners must not hold up any of these, nor the other way round.

use std::{io, sync::Arc};

use tokio::{
    runtime::{Builder, EnterGuard, Runtime},
    time::sleep,
};

use crate::{
    books::{Counters, PULSE_EACH},
    clock::now,
};

/// A runtime of its own; when this is dropped, it ends without waiting for anything.
pub(super) struct MinerThreads(Option<Runtime>);

impl MinerThreads {
    /// One thread per processor; their pulse is in `counters`.
    pub(super) fn start(counters: Arc<Counters>) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("miners")
            .event_interval(TURNS_BETWEEN_EVENTS)
            .global_queue_interval(TURNS_BETWEEN_NEWS)
            .enable_all()
            .build()?;
        runtime.spawn(async move {
            loop {
                counters.pulse.beat(now());
                sleep(PULSE_EACH).await;
            }
        });
        Ok(Self(Some(runtime)))
    }

    /// What is spawned while this lives runs on these threads.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for MinerThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Dropping it would block, which an async task must not.
            runtime.shutdown_background();
        }
    }
}

/// While connections are always busy, sockets are polled after this many turns of half a
/// millisecond.
const TURNS_BETWEEN_EVENTS: u32 = 16;
/// New work comes from other threads: the tasks that it wakes go first.
const TURNS_BETWEEN_NEWS: u32 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn miners_have_threads_of_their_own_which_show_that_they_live() {
        let counters = Arc::<Counters>::default();
        let threads = MinerThreads::start(Arc::clone(&counters)).unwrap();
        let name = || async { std::thread::current().name().map(ToOwned::to_owned) };
        let theirs = {
            let _inside = threads.enter();
            tokio::spawn(name())
        };
        assert_eq!(theirs.await.unwrap().as_deref(), Some("miners"));
        assert_ne!(tokio::spawn(name()).await.unwrap().as_deref(), Some("miners"));
        let far = now() + Duration::from_secs(3600);
        while counters.pulse.stalled(far).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(counters.pulse.stalled(now()), None);
    }
}
