use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::Path,
    sync::{Mutex, PoisonError},
};

use bitcoincore_rpc::Auth;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::*;

/// A block's ways, with nobody at their ends.
struct House {
    dir: TempDir,
    stop: CancellationToken,
    nodes: watch::Sender<Arc<[Destination]>>,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl House {
    fn with_nodes(nodes: &[&str]) -> Self {
        let log = Log::default();
        let writer = log.clone();
        let logging = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        let nodes = nodes
            .iter()
            .map(|url| Destination::new(NodeConfig::new("node", url.parse().unwrap(), Auth::None)));
        Self {
            dir: tempfile::tempdir().unwrap(),
            stop: CancellationToken::new(),
            nodes: watch::Sender::new(nodes.collect()),
            log,
            _logging: tracing::subscriber::set_default(logging),
        }
    }

    fn submit(&self) -> JoinHandle<()> {
        let submitter = Submitter {
            store: Store::new(self.dir.path()),
            nodes: self.nodes.subscribe(),
            on_accepted: Arc::new(|_| ()),
            stats: Arc::default(),
            pending: watch::Sender::new(1),
            stop: self.stop.clone(),
            flight: self.stop.clone(),
            is_taken: Arc::default(),
        };
        tokio::spawn(submitter.submit(Outgoing::found(7, HASH, HEX).unwrap()))
    }

    fn path(&self, ending: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("blocks/7-{HASH}.hex{ending}"))
    }

    /// Stands in the way of the file until it is removed.
    fn obstacle(&self) -> std::path::PathBuf {
        let path = self.path(".tmp");
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn said(&self, words: &str) -> usize {
        let log = self.log.0.lock().unwrap();
        String::from_utf8_lossy(&log).matches(words).count()
    }

    async fn hear(&self, words: &str) {
        until(words, || self.said(words) > 0).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex_in(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_disk_that_is_mended_gets_the_block() {
    let house = House::with_nodes(&[&nowhere()]);
    let obstacle = house.obstacle();
    let _bringing = house.submit();
    house.hear("could not be written").await;
    fs::remove_dir(obstacle).unwrap();
    until("the file", || house.path("").exists()).await;
    house.hear("is now in ledger.data_dir").await;
    assert_eq!(hex_in(&house.path("")), HEX);
    assert_eq!(house.said(HEX), 0);
}

#[tokio::test]
async fn at_the_end_the_block_is_saved_once_more() {
    let house = House::with_nodes(&[&nowhere()]);
    let obstacle = house.obstacle();
    let submitting = house.submit();
    house.hear("could not be written").await;
    house.hear("no verdict").await;
    fs::remove_dir(obstacle).unwrap();
    house.stop.cancel();
    submitting.await.unwrap();
    assert_eq!(hex_in(&house.path("")), HEX);
    assert_eq!(house.said("will be submitted at the next start"), 1);
    assert_eq!(house.said(HEX), 0);
}

#[tokio::test]
async fn a_block_that_only_memory_has_is_in_the_log_at_the_end() {
    let house = House::with_nodes(&[&nowhere()]);
    house.obstacle();
    let submitting = house.submit();
    house.hear("no verdict").await;
    house.stop.cancel();
    submitting.await.unwrap();
    assert_eq!((house.said(HEX), house.said("submit it by hand")), (1, 1));
    assert_eq!(house.said("will be submitted at the next start"), 0);
}

#[tokio::test]
async fn a_block_that_nobody_judged_is_not_refused() {
    let house = House::with_nodes(&[]);
    house.submit().await.unwrap();
    assert_eq!(hex_in(&house.path("")), HEX);
    assert_eq!(house.said("will be submitted at the next start"), 1);
}

/// A node that was moved from a test network to the main one says "high-hash" of what was found
/// before.
#[test]
fn a_block_of_the_network_that_the_node_left_is_told_in_plain_words() {
    let house = House::with_nodes(&[]);
    let mut header = [0; 80];
    header[72..76].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    let target = Nbits::new(0x207f_ffff).unwrap().target();
    let said = |header: &[u8; 80]| {
        let hash = Hash256::of_header(header);
        let block = Outgoing::found(7, hash, &faster_hex::hex_string(header)).unwrap();
        log_answer(&block, "node", &BlockOutcome::Rejected("high-hash".into()));
        target.is_met_by(&hash)
    };
    while !said(&header) {
        header[76] += 1;
    }
    let refused = usize::from(header[76]);
    assert_eq!(house.said("REJECTED"), refused, "those without their work");
    assert_eq!(house.said("mined for an easier network"), 1);
    for odd in ["", "c0ffee", "zz"] {
        let block = Outgoing::found(7, HASH, odd).unwrap();
        log_answer(&block, "node", &BlockOutcome::Rejected("high-hash".into()));
    }
    assert_eq!(house.said("REJECTED"), refused + 3);
}

const HASH: Hash256 = Hash256([7; 32]);
const HEX: &str = "c0ffee";
