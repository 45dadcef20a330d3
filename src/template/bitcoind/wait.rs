//! Waits for tips with calls that the node answers when there is one.
//!
//! A wait occupies one of the node's few RPC threads and cannot be cancelled, and a found block
//! must not queue behind it. So waits are short, they are given up if the node turns out to have no
//! thread to spare, and there are none while ZeroMQ announces tips.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bitcoin::Network;
use serde::Deserialize;
use tokio::{
    pin, select,
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    node::{
        NodeError, RpcError, TipHint, TipHintSource,
        conn::{NO_PARAMS, RpcClient},
        error::METHOD_NOT_FOUND,
        rpc::{self, LONG_POLL_MAX, QUICK_MAX},
        tip_hint::send_hint,
    },
    template::{RulesWatch, SourceOutput},
    work::Hash256,
};

/// What a wait for the next tip starts from.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitFrom {
    /// The tip's height.
    pub(super) height: u32,
    pub(super) longpollid: Option<Box<str>>,
}

/// What waits.
pub(super) struct Waiter {
    pub(super) node: Arc<str>,
    pub(super) network: Network,
    pub(super) allowed: RulesWatch,
    pub(super) client: RpcClient,
    /// For checking, during a wait, whether a thread is left.
    pub(super) second: RpcClient,
    pub(super) from: watch::Receiver<WaitFrom>,
    /// ZeroMQ announces tips.
    pub(super) is_told: watch::Receiver<bool>,
    /// True while waits are in use.
    pub(super) is_waiting: watch::Sender<bool>,
    pub(super) hints: mpsc::Sender<TipHint>,
    pub(super) output: SourceOutput,
}

/// A long poll that the node has not answered: it occupies one of its RPC threads until there is a
/// new tip, or forever on a quiet test network, even if the connection is gone. So no second one is
/// begun on the same tip, in any session.
#[derive(Clone, Debug, Default)]
pub(in crate::template) struct AbandonedPoll(Arc<AtomicU32>);

impl AbandonedPoll {
    /// The height of the tip; 0: there is none.
    fn height(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn set(&self, height: u32) {
        self.0.store(height, Relaxed);
    }
}

/// How a wait ended.
enum Waited {
    Tip(Reached),
    /// There is no new tip; how long the node took to answer something else meanwhile.
    Nothing {
        answered_in: Duration,
    },
}

impl Waiter {
    /// `waitforblockheight` costs the node nothing but a thread, and answers before any template is
    /// made; if it is unknown or not allowed, a long poll for templates is used. Tips of the same
    /// height are left to the slow poll.
    pub(super) async fn run(mut self) {
        if self.from.wait_for(|from| from.height > 0).await.is_err() {
            return;
        }
        let mut threads = Threads::default();
        while !self.hints.is_closed() {
            self.until_needed().await;
            if threads.usual.is_none() {
                threads.usual = Some(self.answers_in().await);
            }
            self.set_waiting(true);
            let length = threads.wait();
            let height = self.from.borrow().height;
            match self.wait(height.saturating_add(1), length).await {
                Ok(Waited::Tip(reached)) => {
                    if !self.pass_on(&reached).await {
                        return;
                    }
                    // Until the session knows of the tip, the next wait would end at once.
                    let _ = timeout(PAUSE, self.from.changed()).await;
                }
                Ok(Waited::Nothing { answered_in }) => {
                    threads.see(length, answered_in);
                    self.heed(&threads).await;
                }
                Err(NodeError::Rpc(error)) if is_unsupported(&error) => {
                    debug!(node = %self.node, %error, "waitforblockheight cannot be used: long \
                                                       polling instead");
                    return self.long_poll(threads.usual.unwrap_or_default()).await;
                }
                Err(error) => {
                    debug!(node = %self.node, %error, "waiting for a block failed");
                    send_hint(&self.hints, TipHintSource::SlowPoll);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Returns when nothing else announces tips.
    async fn until_needed(&mut self) {
        while *self.is_told.borrow_and_update() {
            self.set_waiting(false);
            if self.is_told.changed().await.is_err() {
                return;
            }
        }
    }

    /// One wait, and another call during it that also needs a thread.
    async fn wait(&mut self, height: u32, length: Duration) -> Result<Waited, NodeError> {
        let reached = wait_for_height(&mut self.client, height, length);
        let second = &mut self.second;
        let beside = async {
            // By then the wait has its thread.
            sleep(length / 4).await;
            answers_in(second).await
        };
        pin!(reached, beside);
        let (reached, answered_in) = select! {
            biased;
            reached = &mut reached => {
                let reached = reached?;
                if reached.height >= height {
                    return Ok(Waited::Tip(reached));
                }
                (reached, beside.await)
            }
            answered_in = &mut beside => (reached.await?, answered_in),
        };
        if reached.height >= height {
            return Ok(Waited::Tip(reached));
        }
        Ok(Waited::Nothing { answered_in })
    }

    async fn pass_on(&self, reached: &Reached) -> bool {
        let tip = Hash256::from_display_hex(&reached.hash);
        self.hints.send(TipHint::new(TipHintSource::LongPoll, tip)).await.is_ok()
    }

    /// Leaves the node alone for a while if it has no thread to spare.
    async fn heed(&mut self, threads: &Threads) {
        if threads.short == 0 {
            let known = self.output.status().has_spare_threads;
            if known == Some(false) {
                info!(node = %self.node, "the node has RPC threads to spare again");
            }
            if known != Some(true) {
                self.output.update(|status| status.has_spare_threads = Some(true));
            }
            return;
        }
        self.set_waiting(false);
        debug!(node = %self.node, times = threads.short, "the node has no RPC thread left besides \
                                                          the one that waits");
        if threads.short >= SHORT_MIN {
            self.log_short_of_threads();
        }
        sleep(threads.pause()).await;
    }

    fn log_short_of_threads(&self) {
        if self.output.status().has_spare_threads != Some(false) {
            warn!(
                node = %self.node,
                "the node has no RPC thread to spare, so it is polled for new blocks four times a \
                 second, and other programs' requests can delay a found block: set rpcthreads=16 \
                 and zmqpubhashblock in its bitcoin.conf, and zmq_hashblock in gatewayd.toml"
            );
            self.output.update(|status| status.has_spare_threads = Some(false));
        }
    }

    fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.send_if_modified(|old| std::mem::replace(old, is_waiting) != is_waiting);
    }

    async fn answers_in(&mut self) -> Duration {
        answers_in(&mut self.second).await
    }

    /// `usual`: how long the node takes to answer.
    async fn long_poll(mut self, usual: Duration) {
        // Assumed until it turns out to have none.
        self.output.update(|status| status.has_spare_threads = Some(true));
        let mut last = None;
        while !self.hints.is_closed() {
            self.until_needed().await;
            let from = self.from.wait_for(|from| from.longpollid.is_some()).await;
            let Ok(WaitFrom { longpollid, height }) = from.map(|from| from.clone()) else { return };
            if self.output.abandoned_poll.height() == height {
                debug!(node = %self.node, height, "the node still holds an abandoned long poll: polling it instead");
                self.set_waiting(false);
                if self.from.wait_for(|from| from.height != height).await.is_err() {
                    return;
                }
                continue;
            }
            let id = longpollid.unwrap_or_default();
            self.output.abandoned_poll.set(height);
            self.set_waiting(true);
            let started = Instant::now();
            let rules = (self.network, Arc::clone(&self.allowed.borrow()));
            let poll = rpc::template(&mut self.client, Arc::clone(&self.node), rules, Some(&id));
            let polled = select! {
                polled = timeout(LONG_POLL_MAX, poll) => polled.ok(),
                Ok(()) = self.is_told.changed() => continue,
                () = starved(&mut self.second, STARVED + usual * 2) => {
                    self.set_waiting(false);
                    return self.log_short_of_threads();
                }
            };
            if polled.as_ref().is_some_and(is_answer) {
                self.output.abandoned_poll.set(0);
            }
            let mut is_news = false;
            match polled {
                Some(Ok(parsed)) => {
                    let tip = parsed.template.prevhash;
                    is_news = last.replace(tip) != Some(tip);
                    if self
                        .hints
                        .send(TipHint::new(TipHintSource::LongPoll, Some(tip)))
                        .await
                        .is_err()
                    {
                        return;
                    }
                    // An old id would be answered at once, with the same tip again.
                    let is_new = |new: &WaitFrom| new.longpollid.as_ref() != Some(&id);
                    let _ = timeout(PAUSE, self.from.wait_for(is_new)).await;
                }
                Some(Err(error)) => {
                    debug!(node = %self.node, %error, "the long poll failed");
                    send_hint(&self.hints, TipHintSource::SlowPoll);
                }
                None => {}
            }
            // New tips may come faster than that; the same answer again may not.
            if !is_news && started.elapsed() < PAUSE {
                sleep(PAUSE).await;
            }
        }
    }
}

/// The node has finished a poll, or never began it.
fn is_answer<T>(polled: &Result<T, NodeError>) -> bool {
    !matches!(polled, Err(NodeError::Rpc(RpcError::Io { .. } | RpcError::Timeout { .. })))
}

/// Returns when the node has not answered for this long.
async fn starved(client: &mut RpcClient, limit: Duration) {
    loop {
        sleep(PAUSE).await;
        if timeout(limit, answers_in(client)).await.is_err() {
            return;
        }
    }
}

/// How long the node takes to answer a call that costs it nothing. A refusal is an answer too, and
/// also needs a thread; failures are noticed elsewhere.
async fn answers_in(client: &mut RpcClient) -> Duration {
    let started = Instant::now();
    match client.call("uptime", NO_PARAMS, QUICK_MAX).await {
        Err(RpcError::Io { .. } | RpcError::Connect { .. }) => Duration::ZERO,
        _ => started.elapsed(),
    }
}

/// What waits have shown about a node's RPC threads. Pure.
#[derive(Debug, Default)]
struct Threads {
    /// How long an answer takes when a thread is free.
    usual: Option<Duration>,
    /// Consecutive waits during which no other thread was left.
    short: u32,
    /// The last wait was not a test, or one that succeeded.
    is_trusted: bool,
}

impl Threads {
    /// How long the next wait may be.
    fn wait(&self) -> Duration {
        if self.is_trusted { WAIT } else { TRIAL }
    }

    /// During a wait of this length, another call was answered after this time. If there is no
    /// other thread, that call was answered only when the wait was over.
    fn see(&mut self, length: Duration, answered_in: Duration) {
        let usual = self.usual.unwrap_or(answered_in).min(answered_in);
        self.is_trusted = answered_in < usual + length / 2;
        if self.is_trusted {
            (self.usual, self.short) = (Some(usual), 0);
        } else {
            // Measured again: the whole node may have become slow.
            (self.usual, self.short) = (None, self.short.saturating_add(1));
        }
    }

    /// The time until the next test.
    fn pause(&self) -> Duration {
        (PAUSE * (1 << self.short.saturating_sub(1).min(DOUBLINGS_MAX))).min(PAUSE_MAX)
    }
}

#[derive(Deserialize)]
struct Reached {
    hash: String,
    height: u32,
}

async fn wait_for_height(
    client: &mut RpcClient,
    height: u32,
    length: Duration,
) -> Result<Reached, NodeError> {
    let started = Instant::now();
    let params = (height, length.as_millis());
    let answer = client.call("waitforblockheight", params, length + QUICK_MAX).await?;
    let reached: Reached = answer.parse()?;
    if reached.height < height && started.elapsed() < length / 2 {
        sleep(PAUSE).await; // It is shutting down, and would answer at once again.
    }
    Ok(reached)
}

fn is_unsupported(error: &RpcError) -> bool {
    matches!(error, RpcError::Forbidden(_)) || error.code() == Some(METHOD_NOT_FOUND)
}

/// How long we occupy one of the node's threads, perhaps the last free one, so a found block queues
/// for this long at most. Each wait costs the node one call.
const WAIT: Duration = Duration::from_millis(500);
/// A wait that tests whether there is a thread to spare: longer than the usual hiccup of a busy
/// machine.
const TRIAL: Duration = Duration::from_millis(200);
/// A slower machine is not a reason to tell the operator about threads.
const SHORT_MIN: u32 = 3;
/// Keeps a node that answers at once, again and again, from being asked in a loop.
const PAUSE: Duration = Duration::from_millis(500);
/// Other programs may release threads again.
const PAUSE_MAX: Duration = Duration::from_secs(600);
const DOUBLINGS_MAX: u32 = 11;
/// A node that normally answers at once has no thread if it does not answer for this long.
const STARVED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_node_without_a_thread_to_spare_is_waited_for_ever_less() {
        let mut threads = Threads { usual: Some(ms(1)), ..Threads::default() };
        assert_eq!(threads.wait(), TRIAL);
        // Answered when the wait was over.
        threads.see(TRIAL, ms(151));
        assert_eq!((threads.short, threads.wait(), threads.pause()), (1, TRIAL, PAUSE));
        let mut pause = threads.pause();
        for short in 2..30 {
            threads.usual = Some(ms(1));
            threads.see(TRIAL, ms(151));
            assert!(threads.pause() >= pause && threads.short == short, "{threads:?}");
            pause = threads.pause();
        }
        assert_eq!(pause, PAUSE_MAX);
        threads.usual = Some(ms(1));
        threads.see(TRIAL, ms(2));
        assert_eq!((threads.short, threads.wait()), (0, WAIT));
        // Others have taken the threads since.
        threads.see(WAIT, ms(376));
        assert_eq!((threads.short, threads.wait()), (1, TRIAL));
    }

    #[test]
    fn a_node_that_is_slow_to_answer_has_threads_all_the_same() {
        let mut threads = Threads { usual: Some(ms(2000)), ..Threads::default() };
        for _ in 0..5 {
            threads.see(threads.wait(), ms(2020));
            assert_eq!((threads.short, threads.wait()), (0, WAIT));
        }
        // A hesitation of the machine is none either.
        threads.see(WAIT, ms(2200));
        assert_eq!(threads.short, 0);
    }
}
