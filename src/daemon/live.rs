//! What follows the configuration while gatewayd runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Config;

/// Tells parts of the daemon what the configuration says now, each in its own words, in the order in
/// which they asked to be told.
#[derive(Clone)]
pub(super) struct Live {
    configs: watch::Receiver<Arc<Config>>,
    followers: Arc<Mutex<Vec<Follower>>>,
}

type Follower = Box<dyn FnMut(&Config) + Send>;

impl Live {
    /// Starts to watch, until `stop`.
    pub(super) fn new(
        configs: watch::Receiver<Arc<Config>>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let live = Self { configs, followers: Arc::default() };
        let mut watching = live.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while watching.changed().await.is_some() {
                watching.tell_all();
            }
        }));
        live
    }

    /// Calls `apply` now and after each change.
    pub(super) fn follow(&self, apply: impl FnMut(&Config) + Send + 'static) {
        let mut follower: Follower = Box::new(apply);
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        follower(&self.now());
        followers.push(follower);
    }

    /// Tells all parts again whenever `news` comes that their words depend on.
    pub(super) fn tell_with<T: Send + Sync + 'static>(
        &self,
        mut news: watch::Receiver<T>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let live = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while news.changed().await.is_ok() {
                live.tell_all();
            }
        }));
    }

    fn tell_all(&self) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.now();
        followers.iter_mut().for_each(|follower| follower(&config));
    }

    /// A part's own view of the configuration, kept up. None: it has nothing to say.
    pub(super) fn view<T: Send + Sync + 'static>(
        &self,
        convert: impl Fn(&Config) -> Option<T> + Send + 'static,
    ) -> Option<watch::Receiver<Arc<T>>> {
        let (sender, receiver) = watch::channel(Arc::new(convert(&self.now())?));
        self.follow(move |config| {
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

    /// Waits for a change; None: there will be none.
    pub(super) async fn changed(&mut self) -> Option<()> {
        self.configs.changed().await.ok()
    }

    pub(super) fn now(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }
}
