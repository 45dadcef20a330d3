#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{
        AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf,
        split,
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Sv1Session;
use crate::{
    stratum::{Closing, Config, ConnError, Context, MinerConnection, Origin},
    work::fixture::{EASY, HARD, WorkFeed, pooled, solo, template},
    work::{Admission, Announce, BuildJob, Difficulty, Payout, ShareBatch, Work},
};

/// A connection over a pipe, and everything around it.
struct Sv1ConnectionHarness {
    feed: WorkFeed,
    work: watch::Sender<Arc<Work>>,
    stop: Option<watch::Sender<()>>,
    context: Arc<Context>,
    relay: mpsc::Receiver<ShareBatch>,
    blocks: Arc<Mutex<Vec<crate::work::Hash256>>>,
    served: JoinHandle<Result<(), ConnError>>,
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    miner: WriteHalf<DuplexStream>,
}

const SUBSCRIBE: &str = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"t\"]}\n";
/// Only version, ntime and nonce differ between headers: some of 64 meet the target.
fn submits(range: std::ops::Range<u32>) -> String {
    range
        .map(|nonce| {
            format!(
                "{{\"id\":{nonce},\"method\":\"mining.submit\",\"params\":[\"w\",\"1f\",\"0000000000000000\",\"6553f100\",\"{nonce:08x}\"]}}\r\n"
            )
        })
        .collect()
}

impl Sv1ConnectionHarness {
    fn new(nbits: u32, payout: &Arc<Payout>, pipe: usize) -> Self {
        let feed = WorkFeed::new(nbits, payout);
        let (work, work_out) = watch::channel(Arc::new(feed.work.clone()));
        let (shares, relay) = mpsc::channel(2);
        let (stop, stop_out) = watch::channel(());
        let blocks = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&blocks);
        let mut config = Config::with_address("nobody");
        config.difficulty_min = Difficulty::new(1e-9).unwrap();
        config.difficulty_start = config.difficulty_min;
        let context = Arc::new(Context {
            config: watch::channel(Arc::new(config)).1,
            work: work_out,
            blocks: Arc::new(move |block| sink.lock().unwrap().push(block.hash)),
            shares: Some(shares),
            counters: Arc::default(),
            shutdown: CancellationToken::new(),
        });
        let (miner, socket) = tokio::io::duplex(pipe);
        let conn = MinerConnection::new(
            Arc::clone(&context),
            socket,
            Arc::default(),
            stop_out,
            |config, work, now| {
                Sv1Session::new(config, Origin::standalone([1, 2, 3, 4], now), work, now)
            },
        );
        let served = tokio::spawn(conn.serve());
        let (read, miner) = split(miner);
        let lines = BufReader::new(read).lines();
        Self { feed, work, stop: Some(stop), context, relay, blocks, served, lines, miner }
    }

    fn solo() -> Self {
        Self::new(HARD, &solo(), 65_536)
    }

    async fn say(&mut self, text: &str) {
        self.miner.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    /// The next line that is an answer.
    async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await;
            if !line.contains("\"method\"") {
                return line;
            }
        }
    }

    async fn subscribe(&mut self) {
        self.say(SUBSCRIBE).await;
        for part in ["result", "set_difficulty", "notify"] {
            assert!(self.line().await.contains(part));
        }
    }

    fn publish(&mut self, tip: u8) {
        let payout = Arc::clone(&self.feed.work.latest().payout);
        self.feed.publish(BuildJob::Classes, &template(tip, HARD, 3), &payout, Announce::Now);
        self.work.send_replace(Arc::new(self.feed.work.clone()));
    }

    /// The rest of what the miner is sent, and how the connection ended.
    async fn end(mut self) -> (String, Result<(), ConnError>) {
        let ended = self.served.await.unwrap();
        let mut rest = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        (rest, ended)
    }
}

#[tokio::test]
async fn pipelined_shares_reach_the_relay_in_batches() {
    let mut bench = Sv1ConnectionHarness::new(HARD, &pooled(0), 65_536);
    bench.subscribe().await;
    bench.say(&submits(0..64)).await;
    let mut accepted = 0;
    for nonce in 0..64 {
        let line = bench.reply().await;
        assert!(line.starts_with(&format!("{{\"id\":{nonce},")), "{line}");
        accepted += usize::from(line.contains("true"));
    }
    let batch = bench.relay.recv().await.unwrap();
    assert!(accepted > 5);
    assert_eq!(batch.shares.len(), accepted);
    let view = bench.context.counters.view();
    assert_eq!((view.accepted, view.rejected_total()), (accepted as u64, 64 - accepted as u64));
    assert_eq!(view.connections, 1);
    let context = Arc::clone(&bench.context);
    drop(bench.miner);
    drop(bench.lines);
    bench.served.await.unwrap().unwrap();
    assert_eq!(context.counters.view().connections, 0);
}

#[tokio::test]
async fn a_full_relay_is_counted_and_nobody_waits() {
    let mut bench = Sv1ConnectionHarness::new(HARD, &pooled(0), 65_536);
    bench.subscribe().await;
    for round in 0..8 {
        let range = round * 32..round * 32 + 32;
        bench.say(&submits(range.clone())).await;
        for _ in range {
            bench.reply().await;
        }
    }
    let view = bench.context.counters.view();
    assert!(view.relay_dropped > 0);
    let mut relayed = 0;
    while let Ok(batch) = bench.relay.try_recv() {
        relayed += batch.shares.len() as u64;
    }
    assert_eq!(relayed + view.relay_dropped, view.accepted);
}

#[tokio::test]
async fn solo_shares_are_not_relayed() {
    let mut bench = Sv1ConnectionHarness::solo();
    bench.subscribe().await;
    bench.say(&submits(0..64)).await;
    for _ in 0..64 {
        bench.reply().await;
    }
    assert!(bench.relay.try_recv().is_err());
    assert!(bench.context.counters.view().accepted > 0);
}

#[tokio::test]
async fn lines_may_come_in_pieces() {
    let mut bench = Sv1ConnectionHarness::solo();
    for byte in SUBSCRIBE.bytes() {
        bench.miner.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    for part in ["result", "set_difficulty", "notify"] {
        assert!(bench.line().await.contains(part));
    }
}

#[tokio::test]
async fn last_reply_is_sent_before_closing() {
    let mut bench = Sv1ConnectionHarness::solo();
    bench.say("{\"id\":1,\"method\":\"mining.ping\"}\ngarbage\n").await;
    let (rest, ended) = bench.end().await;
    assert!(rest.contains("pong"));
    assert!(matches!(ended, Err(ConnError::Close(Closing::Violation(_)))));
}

/// One connection held its thread for 127 reads; 64 such connections held up a new tip for seconds.
#[tokio::test]
async fn a_flood_of_lines_lets_others_go_first() {
    let mut bench = Sv1ConnectionHarness::new(HARD, &solo(), 1 << 20);
    let lines = vec![b'\n'; 1 << 19];
    bench.miner.write_all(&lines).await.unwrap();
    bench.miner.write_all(b"{\"id\":1,\"method\":\"mining.ping\"}\n").await.unwrap();
    let others = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&others);
    // Always ready, like other miners.
    tokio::spawn(std::future::poll_fn(move |cx| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    let answer = bench.lines.next_line().await.unwrap().unwrap();
    let others = others.load(std::sync::atomic::Ordering::Relaxed);
    assert!(answer.contains("pong"), "{answer}");
    assert!(others > 1000, "others had {others} turns");
}

#[tokio::test]
async fn lines_are_limited() {
    for text in ["x".repeat(LINE_LEN_MAX + 1), format!("{}\n", "x".repeat(LINE_LEN_MAX + 1))] {
        let mut bench = Sv1ConnectionHarness::solo();
        bench.say(&text).await;
        assert!(matches!(bench.end().await.1, Err(ConnError::Close(Closing::Violation(_)))));
    }
}

#[tokio::test]
async fn new_work_reaches_a_silent_miner() {
    let mut bench = Sv1ConnectionHarness::solo();
    bench.subscribe().await;
    for tip in 2..6 {
        bench.publish(tip);
        let line = bench.line().await;
        assert!(line.contains(&format!("{tip:02x}").repeat(32)), "{line}");
        assert!(line.ends_with("true]}"));
    }
}

#[tokio::test]
async fn closed_admission_ends_the_connection() {
    let mut bench = Sv1ConnectionHarness::solo();
    bench.subscribe().await;
    bench.feed.work.admission = Admission::Closed("no node".into());
    bench.work.send_replace(Arc::new(bench.feed.work.clone()));
    let ended = bench.end().await.1;
    assert!(matches!(ended, Err(ConnError::Close(Closing::SentAway(_)))));
}

#[tokio::test]
async fn a_block_in_the_last_read_still_goes_out() {
    let mut bench = Sv1ConnectionHarness::new(EASY, &solo(), 65_536);
    bench.subscribe().await;
    // Both at once, before the connection's task can run.
    bench.say(&submits(0..32)).await;
    bench.stop = None;
    let blocks = Arc::clone(&bench.blocks);
    let (rest, ended) = bench.end().await;
    ended.unwrap();
    assert_eq!(rest.lines().filter(|line| !line.contains("\"method\"")).count(), 32);
    assert!(blocks.lock().unwrap().len() > 4);
}

#[tokio::test]
async fn a_block_goes_out_before_the_reply() {
    let mut bench = Sv1ConnectionHarness::new(EASY, &solo(), 65_536);
    bench.subscribe().await;
    for nonce in 0..32 {
        bench.say(&submits(nonce..nonce + 1)).await;
        bench.reply().await;
        let blocks = bench.context.counters.view().blocks;
        assert_eq!(bench.blocks.lock().unwrap().len() as u64, blocks);
    }
    assert!(bench.context.counters.view().blocks > 4);
}

#[tokio::test(start_paused = true)]
async fn a_miner_that_does_not_read_is_closed_and_its_shares_count() {
    let mut bench = Sv1ConnectionHarness::new(HARD, &pooled(0), 4096);
    bench.say(SUBSCRIBE).await;
    // Replies to these do not fit into the pipe, so not all of them are read.
    let flood = submits(0..500);
    let _ = timeout(Duration::from_secs(60), bench.miner.write_all(flood.as_bytes())).await;
    let ended = bench.served.await.unwrap();
    assert!(matches!(ended, Err(ConnError::WriteStalled)), "{ended:?}");
    assert!(bench.context.counters.view().accepted > 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything_and_the_latest_work() {
    let mut bench = Sv1ConnectionHarness::new(HARD, &solo(), 600);
    bench.say(SUBSCRIBE).await;
    bench.publish(2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.publish(3);
    let mut last = String::new();
    while !last.contains(&"03".repeat(32)) {
        last = bench.line().await;
    }
    assert!(!bench.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_subscribe_is_disconnected() {
    let bench = Sv1ConnectionHarness::solo();
    let start = now();
    let ended = bench.end().await.1;
    assert!(matches!(ended, Err(ConnError::Close(Closing::LoginTimeout(_)))));
    assert_eq!((now() - start).as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn paced_work_arrives_in_time() {
    let mut bench = Sv1ConnectionHarness::solo();
    bench.subscribe().await;
    let (start, interval) = (now(), Duration::from_secs(40));
    let payout = Arc::clone(&bench.feed.work.latest().payout);
    let paced = Announce::Paced(interval);
    bench.feed.publish(BuildJob::Classes, &template(1, HARD, 3), &payout, paced);
    bench.work.send_replace(Arc::new(bench.feed.work.clone()));
    assert!(bench.line().await.ends_with("false]}"));
    let waited = now() - start;
    assert!(waited > Duration::ZERO && waited <= interval, "{waited:?}");
}

#[tokio::test]
async fn a_connection_is_small() {
    let bench = Sv1ConnectionHarness::solo();
    let (_stop, stop) = watch::channel(());
    let (_miner, socket) = tokio::io::duplex(1);
    let conn = MinerConnection::new(
        Arc::clone(&bench.context),
        socket,
        Arc::default(),
        stop,
        |config, work, now| Sv1Session::new(config, Origin::standalone([0; 4], now), work, now),
    );
    let size = size_of_val(&conn.serve());
    assert!(size <= 2048, "{size}");
}

#[tokio::test]
async fn the_end_of_work_ends_the_connection() {
    let bench = Sv1ConnectionHarness::solo();
    drop(bench.work);
    bench.served.await.unwrap().unwrap();
    let mut rest = Vec::new();
    let mut lines = bench.lines.into_inner();
    assert_eq!(lines.read_to_end(&mut rest).await.unwrap(), 0);
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

const LINE_LEN_MAX: usize = 8192;
