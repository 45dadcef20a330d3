//! What follows the configuration while gatewayd runs.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Config;

/// Tells parts of the daemon what the configuration says now, each in its own words.
#[derive(Clone)]
pub(super) struct Live {
    configs: watch::Receiver<Arc<Config>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Live {
    pub(super) fn new(
        configs: watch::Receiver<Arc<Config>>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        Self { configs, stop: stop.clone(), tasks: tasks.clone() }
    }

    /// Calls `apply` after each change.
    pub(super) fn follow(&self, apply: impl FnMut(&Config) + Send + 'static) {
        self.follow_from(self.configs.clone(), apply);
    }

    fn follow_from(
        &self,
        mut configs: watch::Receiver<Arc<Config>>,
        mut apply: impl FnMut(&Config) + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while configs.changed().await.is_ok() {
                let config = Arc::clone(&configs.borrow_and_update());
                apply(&config);
            }
        }));
    }

    /// A part's own view of the configuration, kept up. None: it has nothing to say.
    pub(super) fn view<T: Send + Sync + 'static>(
        &self,
        convert: impl Fn(&Config) -> Option<T> + Send + 'static,
    ) -> Option<watch::Receiver<Arc<T>>> {
        let mut configs = self.configs.clone();
        let first = convert(&configs.borrow_and_update())?;
        let (sender, receiver) = watch::channel(Arc::new(first));
        self.follow_from(configs, move |config| {
            if let Some(view) = convert(config) {
                sender.send_replace(Arc::new(view));
            }
        });
        Some(receiver)
    }

    /// Waits until the configuration is like that; None: it never will be.
    pub(super) async fn wait_for(&mut self, good: impl FnMut(&Arc<Config>) -> bool) -> Option<()> {
        self.configs.wait_for(good).await.ok().map(|_| ())
    }

    pub(super) fn now(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }
}
