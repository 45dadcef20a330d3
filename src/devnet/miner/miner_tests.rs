//! Against a scripted server on a real socket, which checks each share itself.

use std::time::Duration;

use bitcoin::{block::Header, consensus::deserialize, hashes::Hash as _};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    time::timeout,
};

use super::*;
use crate::{
    sv2::{
        codec::{Message, Reconnect, Str255},
        noise::{ACT1_LEN, AuthorityKey, Identity, Responder},
    },
    work::{Difficulty, Hash256, Target},
};

const PREVHASHES: [&str; 2] = [
    "0000000100000002000000030000000400000005000000060000000700000008",
    "1111111100000002000000030000000400000005000000060000000700000008",
];
const BRANCH: &str = "abababababababababababababababababababababababababababababababab";
const DIFFICULTY: f64 = 1e-6;

struct Server {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    mask: u32,
}

/// A `mining.submit`, as it arrived.
struct Submit {
    id: u64,
    job: String,
    version_bits: Option<u32>,
}

impl Server {
    async fn accept(listener: &TcpListener, mask: u32) -> Self {
        let (stream, _): (TcpStream, _) = within(listener.accept()).await.unwrap();
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write, mask }
    }

    async fn line(&mut self) -> String {
        within(self.lines.next_line()).await.unwrap().expect("the miner hung up")
    }

    async fn send(&mut self, line: &str) {
        self.write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Answers everything up to the authorization. Returns the methods that were called.
    async fn login(&mut self) -> Vec<String> {
        let mut methods = Vec::new();
        loop {
            let line = self.line().await;
            let method = line.split('"').nth(5).unwrap().to_owned();
            let mask = self.mask;
            match &*method {
                "mining.configure" => self.send(&format!(r#"{{"id":1,"result":{{"version-rolling":true,"version-rolling.mask":"{mask:08x}"}},"error":null}}"#)).await,
                "mining.subscribe" => self.send(r#"{"id":2,"result":[[],"01020304",8],"error":null}"#).await,
                "mining.authorize" => self.send(r#"{"id":3,"result":true,"error":null}"#).await,
                _ => panic!("{line}"),
            }
            methods.push(method);
            if methods.last().unwrap() == "mining.authorize" {
                self.send(&format!(
                    r#"{{"id":null,"method":"mining.set_difficulty","params":[{DIFFICULTY}]}}"#
                ))
                .await;
                return methods;
            }
        }
    }

    async fn job(&mut self, id: &str, block: usize, clean: bool) {
        let prevhash = PREVHASHES[block];
        self.send(&format!(r#"{{"id":null,"method":"mining.notify","params":["{id}","{prevhash}","c0ffee","beef",["{BRANCH}"],"20000000","1d00ffff","66000000",{clean}]}}"#)).await;
    }

    /// The next share on `block`, with its work checked.
    async fn share(&mut self, block: usize) -> Submit {
        let line = self.line().await;
        check_share(&line, PREVHASHES[block], self.mask)
    }

    async fn accept_share(&mut self, submit: &Submit) {
        self.send(&format!(r#"{{"id":{},"result":true,"error":null}}"#, submit.id)).await;
    }
}

#[derive(serde::Deserialize)]
struct Request {
    id: u64,
    method: String,
    params: Vec<String>,
}

fn check_share(line: &str, prevhash: &str, mask: u32) -> Submit {
    let Request { id, method, params } = serde_json::from_str(line).unwrap();
    assert_eq!(method, "mining.submit");
    let number = |at: usize| u32::from_str_radix(&params[at], 16).unwrap();
    let unhex = |text: &str| {
        let mut bytes = vec![0; text.len() / 2];
        faster_hex::hex_decode(text.as_bytes(), &mut bytes).unwrap();
        bytes
    };
    let version_bits = (params.len() > 5).then(|| number(5));
    assert_eq!(version_bits.unwrap_or(0) & !mask, 0);
    let coinbase = unhex(&format!("c0ffee01020304{}beef", params[2]));
    let root = Hash256::sha256d(&coinbase).merkle_step(&Hash256(unhex(BRANCH).try_into().unwrap()));
    let mut header = (0x2000_0000 | version_bits.unwrap_or(0)).to_le_bytes().to_vec();
    for word in unhex(prevhash).chunks(4) {
        header.extend(word.iter().rev());
    }
    header.extend(root.0);
    for field in [number(3), 0x1d00_ffff, number(4)] {
        header.extend(field.to_le_bytes());
    }
    let header: Header = deserialize(&header).unwrap();
    let target = Target::from_difficulty(Difficulty::new(DIFFICULTY).unwrap());
    let hash = header.block_hash().to_byte_array();
    assert!(target.is_met_by(&Hash256(hash)), "high hash");
    Submit { id, job: params[1].clone(), version_bits }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("nothing happened for 30 s")
}

/// Waits until the miner's statistics are as `wanted`.
async fn until(miner: &MinerHandle, wanted: impl Fn(&MinerStats) -> bool) {
    let poll = async {
        while !wanted(&miner.stats()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(poll).await;
}

async fn start(options: MinerOptions) -> (TcpListener, MinerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    // Leaves the processor to other tests: a share takes about 4,300 hashes.
    let miner = Miner::start(MinerOptions { connect, hashrate_max: Some(2e5), ..options });
    (listener, miner.unwrap())
}

#[tokio::test]
async fn shares_are_solved_and_roll_versions_within_the_mask() {
    let (listener, miner) = start(MinerOptions::default()).await;
    let mut server = Server::accept(&listener, 0x00c0_0000).await;
    assert_eq!(server.login().await, ["mining.configure", "mining.subscribe", "mining.authorize"]);
    server.job("1", 0, true).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut shares = 0;
    while seen.len() < 4 {
        let share = server.share(0).await;
        seen.insert(share.version_bits.unwrap());
        server.accept_share(&share).await;
        shares += 1;
    }
    until(&miner, |stats| stats.accepted >= shares).await;
    let stats = miner.stats();
    assert_eq!((stats.rejected, stats.late, stats.jobs, stats.clean_jobs), (0, 0, 1, 1));
    assert!(stats.hashes > 4096);
}

#[tokio::test]
async fn without_version_rolling_nothing_is_negotiated_nor_rolled() {
    let (listener, _miner) =
        start(MinerOptions { version_rolling: false, ..MinerOptions::default() }).await;
    let mut server = Server::accept(&listener, 0).await;
    assert_eq!(server.login().await, ["mining.subscribe", "mining.authorize"]);
    server.job("1", 0, true).await;
    for _ in 0..5 {
        assert_eq!(server.share(0).await.version_bits, None);
    }
}

#[tokio::test]
async fn a_clean_job_takes_over_and_old_shares_are_late() {
    let (listener, miner) = start(MinerOptions::default()).await;
    let mut server = Server::accept(&listener, 0x1fff_e000).await;
    server.login().await;
    server.job("old", 0, true).await;
    let old = server.share(0).await;
    server.job("new", 1, true).await;
    server
        .send(&format!(r#"{{"id":{},"result":null,"error":[21,"stale-prevblk",null]}}"#, old.id))
        .await;
    // What was in flight when the new job came may still arrive; after the first share of the
    // new job, none of the old.
    let mut line = server.line().await;
    while line.contains("\"old\"") {
        line = server.line().await;
    }
    assert_eq!(check_share(&line, PREVHASHES[1], 0x1fff_e000).job, "new");
    for _ in 0..5 {
        assert_eq!(server.share(1).await.job, "new");
    }
    until(&miner, |stats| stats.late == 1).await;
    assert_eq!(miner.stats().rejected, 0);
}

#[tokio::test]
async fn the_miner_reconnects_when_the_server_is_back() {
    let (listener, miner) = start(MinerOptions::default()).await;
    for round in 0..3 {
        let mut server = Server::accept(&listener, 0x1fff_e000).await;
        server.login().await;
        server.job("1", 0, true).await;
        let share = server.share(0).await;
        server.accept_share(&share).await;
        until(&miner, |stats| stats.accepted == round + 1).await;
    }
    until(&miner, |stats| stats.disconnects == 3).await;
}

/// It goes where it is redirected, and comes back when nobody is there.
#[tokio::test]
async fn a_stratum_v2_miner_follows_a_redirect() {
    let options = MinerOptions { protocol: MinerProtocol::Sv2Standard, ..MinerOptions::default() };
    let (first, _miner) = start(options).await;
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..2 {
        let (mut stream, _) = within(first.accept()).await.unwrap();
        let (act1, mut answer) = (&mut [0; ACT1_LEN], Vec::new());
        within(stream.read_exact(act1)).await.unwrap();
        let lifetime = Duration::from_secs(3600);
        let identity = Identity::issue(&AuthorityKey::generate(), unix_now(), lifetime);
        let responder = Responder::new(identity.into());
        let mut transport = responder.on_act1(act1, &mut answer).unwrap();
        let mut frame = Vec::new();
        let new_port = second.local_addr().unwrap().port();
        Reconnect { new_host: Str255::default(), new_port }.append(&mut frame);
        transport.writer.seal_frame(&frame, &mut answer).unwrap();
        stream.write_all(&answer).await.unwrap();
        // Hangs up without an answer.
        drop(within(second.accept()).await.unwrap());
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are held against the real clock")]
fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

#[tokio::test]
async fn stopping_waits_for_answers() {
    let (listener, miner) = start(MinerOptions::default()).await;
    let mut server = Server::accept(&listener, 0x1fff_e000).await;
    server.login().await;
    server.job("1", 0, true).await;
    let share = server.share(0).await;
    let stopping = tokio::spawn(miner.stop());
    server.accept_share(&share).await;
    // Others may have been in flight.
    while let Ok(Some(line)) = within(server.lines.next_line()).await {
        let share = check_share(&line, PREVHASHES[0], 0x1fff_e000);
        server.accept_share(&share).await;
    }
    let stats = within(stopping).await.unwrap();
    assert_eq!(stats.accepted, stats.submitted);
    assert_eq!((stats.unanswered, stats.disconnects, stats.connected), (0, 0, false));
}

/// `cargo test --release -- --ignored hash_rate --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn hash_rate() {
    let line = format!(
        r#"{{"id":null,"method":"mining.notify","params":["1","{}","c0ffee","beef",["{BRANCH}"],"20000000","1d00ffff","66000000",true]}}"#,
        PREVHASHES[0]
    );
    let Ok(message::ServerMessage::Notify(job)) = message::ServerMessage::parse(line.as_bytes())
    else {
        panic!()
    };
    let extranonce = message::Extranonce { extranonce1: vec![1, 2, 3, 4], extranonce2_len: 8 };
    let work = scan::HashWork::new(1, Arc::new(*job), extranonce, Some(0x1fff_e000), 1.0);
    let (work, mut cursor, mut found) = (Arc::new(work), scan::Cursor::default(), Vec::new());
    let began = std::time::Instant::now();
    let mut hashes = 0u64;
    while hashes < 20_000_000 {
        hashes += u64::from(cursor.scan(&work, u32::MAX, &mut found));
    }
    eprintln!("{:.2} MH/s", hashes as f64 / began.elapsed().as_secs_f64() / 1e6);
}
