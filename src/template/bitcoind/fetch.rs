//! Fetches templates on request, with two fetchers.

use std::sync::Arc;

use bitcoin::Network;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    node::{NodeError, conn::RpcClient, rpc},
    template::{
        RulesWatch,
        fetch::{FetchRequest, Fetched},
    },
};

/// Two fetchers, so that an old tip's template that is on its way does not delay a new tip's.
#[derive(Debug, Default)]
pub(super) struct Fetchers([Fetcher; 2]);

#[derive(Debug, Default)]
struct Fetcher {
    requests: watch::Sender<FetchRequest>,
    /// The last request that was answered.
    done: FetchRequest,
}

impl Fetcher {
    fn is_idle(&self) -> bool {
        *self.requests.borrow() == self.done
    }
}

impl Fetchers {
    /// Each fetcher's channel for requests.
    pub(super) fn subscribe(&self) -> impl Iterator<Item = watch::Receiver<FetchRequest>> {
        self.0.iter().map(|fetcher| fetcher.requests.subscribe())
    }

    /// No template is on its way.
    pub(super) fn are_idle(&self) -> bool {
        self.0.iter().all(Fetcher::is_idle)
    }

    /// Asks the idle fetcher, or else the second one, which then does it next.
    pub(super) fn request(&self, generation: u64) -> FetchRequest {
        let lane = usize::from(!self.0[0].is_idle());
        let requests = &self.0[lane].requests;
        let id = requests.borrow().id + 1;
        let request = FetchRequest { lane, id, generation };
        requests.send_replace(request);
        request
    }

    pub(super) fn on_fetched(&mut self, request: FetchRequest) {
        if let Some(fetcher) = self.0.get_mut(request.lane) {
            fetcher.done = request;
        }
    }
}

/// Fetches a template whenever `requests` changes. Ends at the first error.
pub(super) async fn fetch_on_request(
    mut client: RpcClient,
    source: Arc<str>,
    (network, allowed): (Network, RulesWatch),
    mut requests: watch::Receiver<FetchRequest>,
    fetched: mpsc::Sender<Result<Fetched, NodeError>>,
) {
    while requests.changed().await.is_ok() {
        let request = *requests.borrow_and_update();
        let started = Instant::now();
        let rules = (network, Arc::clone(&allowed.borrow()));
        let parsed = rpc::template(&mut client, Arc::clone(&source), rules, None).await;
        let took = started.elapsed();
        let result = parsed.map(|parsed| Fetched { request, parsed, took });
        let is_end = result.is_err();
        if fetched.send(result).await.is_err() || is_end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_to_do_is_asked() {
        let mut fetchers = Fetchers::default();
        assert!(fetchers.are_idle());
        let first = fetchers.request(1);
        let second = fetchers.request(2);
        assert_eq!((first.lane, second.lane), (0, 1));
        // Both are busy: of several, the last one counts.
        let (third, fourth) = (fetchers.request(3), fetchers.request(4));
        assert_eq!((third.lane, fourth.lane), (1, 1));
        fetchers.on_fetched(second);
        assert_eq!(fetchers.request(5).lane, 1, "the fourth is on its way");
        fetchers.on_fetched(first);
        assert_eq!(fetchers.request(6).lane, 0);
        let receivers: Vec<_> = fetchers.subscribe().collect();
        let last: Vec<FetchRequest> = receivers.iter().map(|requests| *requests.borrow()).collect();
        assert_eq!((last[0].generation, last[1].generation), (6, 5));
        for request in last {
            fetchers.on_fetched(request);
        }
        assert!(fetchers.are_idle());
    }
}
