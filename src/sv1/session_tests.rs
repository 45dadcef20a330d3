#[path = "odd_tests.rs"]
mod odd;

use bitcoin::hashes::{Hash as _, sha256d};
use serde::Deserialize;

use super::*;
use std::time::Duration;

use crate::{
    stratum::{NameRule, Protocol as _},
    work::fixture::{CURTIME, EASY, HARD, WorkFeed, pooled, solo, template},
    work::{Admission, Announce, BuildJob, Hash256, Target, limits::LimitRules},
};

/// A session, and a miner that takes it at its word.
struct Sv1SessionHarness {
    feed: WorkFeed,
    session: Sv1Session,
    now: Instant,
    out: Vec<u8>,
    effects: Effects,
}

/// A notify as a miner reads it.
#[derive(Clone, Deserialize)]
struct Notify {
    id: String,
    prevhash: String,
    coinb1: String,
    coinb2: String,
    branches: Vec<String>,
    version: String,
    nbits: String,
    ntime: String,
    clean: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a serde_json::value::RawValue>,
}

/// A block takes 2^32: nobody is asked for more than that.
const FAR: u32 = 0x1900_ffff;
const EXTRANONCE1: [u8; 4] = [0xab, 0xcd, 0, 1];

fn config() -> Config {
    let mut config = Config::with_address("bc1qnobody");
    // Every fourth hash is a share.
    config.difficulty_min = Difficulty::new(1e-9).unwrap();
    config.difficulty_start = config.difficulty_min;
    config
}

impl Sv1SessionHarness {
    fn new(config: Config, feed: WorkFeed) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let origin = Origin::standalone(EXTRANONCE1, now);
        let session = Sv1Session::new(Arc::new(config), origin, &feed.work, now);
        Self { feed, session, now, out: Vec::new(), effects: Effects::default() }
    }

    fn solo() -> Self {
        Self::new(config(), WorkFeed::new(HARD, &solo()))
    }

    fn subscribed() -> Self {
        let mut bench = Self::solo();
        bench.say(SUBSCRIBE);
        bench
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn try_say(&mut self, line: &str) -> Result<String, Closing> {
        self.out.clear();
        let Self { session, feed, now, out, effects } = self;
        session.on_line(line.as_bytes(), &feed.work, *now, out, effects)?;
        Ok(self.heard())
    }

    fn say(&mut self, line: &str) -> String {
        self.try_say(line).unwrap()
    }

    fn on_work(&mut self) -> String {
        self.out.clear();
        self.session.on_work(&self.feed.work, self.now, &mut self.out).unwrap();
        self.heard()
    }

    fn on_deadline(&mut self) -> Result<String, Closing> {
        self.out.clear();
        self.session.on_deadline(&self.feed.work, self.now, &mut self.out)?;
        Ok(self.heard())
    }

    /// All that was sent to the miner, which must be JSON, line by line.
    fn heard(&self) -> String {
        let text = String::from_utf8(self.out.clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.lines() {
            serde_json::from_str::<Line<'_>>(line).expect(line);
        }
        text
    }

    fn publish(&mut self, tip: u8, what: BuildJob, announce: Announce) -> String {
        let payout = Arc::clone(&self.feed.work.latest().payout);
        self.feed.publish(what, &template(tip, HARD, 5), &payout, announce);
        self.on_work()
    }

    fn submit(&mut self, notify: &Notify, extranonce2: u64, nonce: u32) -> String {
        self.say(&submit_line(notify, extranonce2, nonce))
    }

    /// Mines a share and submits it.
    fn share(&mut self, notify: &Notify, extranonce2: u64) -> String {
        let nonce = notify.mine(extranonce2, self.session.difficulty());
        self.submit(notify, extranonce2, nonce)
    }
}

fn submit_line(notify: &Notify, extranonce2: u64, nonce: u32) -> String {
    let (id, ntime) = (&notify.id, &notify.ntime);
    format!(
        r#"{{"id":9,"method":"mining.submit","params":["w","{id}","{extranonce2:016x}","{ntime}","{nonce:08x}"]}}"#
    )
}

fn unhex(hex: &str) -> Vec<u8> {
    let mut bytes = vec![0; hex.len() / 2];
    faster_hex::hex_decode(hex.as_bytes(), &mut bytes).unwrap();
    bytes
}

/// The last notify in what was sent.
#[track_caller]
fn notify(said: &str) -> Notify {
    said.lines().rev().find_map(parse_notify).unwrap_or_else(|| panic!("no notify in {said}"))
}

fn parse_notify(line: &str) -> Option<Notify> {
    let line: Line<'_> = serde_json::from_str(line).unwrap();
    (line.method == Some("mining.notify"))
        .then(|| serde_json::from_str(line.params.unwrap().get()).unwrap())
}

/// The last difficulty that was set.
fn told(said: &str) -> Option<f64> {
    said.lines().rev().find_map(|line| {
        let line: Line<'_> = serde_json::from_str(line).unwrap();
        (line.method == Some("mining.set_difficulty"))
            .then(|| serde_json::from_str::<[f64; 1]>(line.params.unwrap().get()).unwrap()[0])
    })
}

impl Notify {
    fn coinbase(&self, extranonce2: u64) -> Vec<u8> {
        [
            unhex(&self.coinb1),
            EXTRANONCE1.to_vec(),
            extranonce2.to_be_bytes().to_vec(),
            unhex(&self.coinb2),
        ]
        .concat()
    }

    /// As in firmware: words of the previous hash swapped back, fields little-endian.
    fn header(&self, extranonce2: u64, nonce: u32) -> Vec<u8> {
        self.header_of(&self.coinbase(extranonce2), nonce)
    }

    fn header_of(&self, coinbase: &[u8], nonce: u32) -> Vec<u8> {
        let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap().to_le_bytes().to_vec();
        let prevhash = unhex(&self.prevhash);
        let prevhash: Vec<u8> =
            prevhash.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
        let root = self.branches.iter().fold(sha256d::Hash::hash(coinbase), |left, right| {
            sha256d::Hash::hash(&[left.to_byte_array().to_vec(), unhex(right)].concat())
        });
        [
            number(&self.version),
            prevhash,
            root.to_byte_array().to_vec(),
            number(&self.ntime),
            number(&self.nbits),
            nonce.to_le_bytes().to_vec(),
        ]
        .concat()
    }

    fn mine(&self, extranonce2: u64, difficulty: Difficulty) -> u32 {
        let header = self.header(extranonce2, 0);
        find_nonce(&header, 0, &Target::from_difficulty(difficulty))
    }
}

/// The first nonce from `first` on that makes a share.
fn find_nonce(header: &[u8], first: u32, target: &Target) -> u32 {
    let mut header = header.to_vec();
    let is_share = |nonce: &u32| {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        target.is_met_by(&Hash256(sha256d::Hash::hash(&header).to_byte_array()))
    };
    (first..).find(is_share).unwrap()
}

const SUBSCRIBE: &str = r#"{"id":1,"method":"mining.subscribe","params":["test/1",null]}"#;
const TRUE_9: &str = "{\"id\":9,\"result\":true,\"error\":null}\n";

#[test]
fn subscribe_is_followed_by_difficulty_and_work() {
    let said = Sv1SessionHarness::solo().say(SUBSCRIBE);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"id":1,"result":[[["mining.set_difficulty","abcd0001"],["mining.notify","abcd0001"]],"abcd0001",8],"error":null}"#
    );
    assert_eq!(told(lines[1]), Some(1e-9));
    assert!(notify(lines[2]).clean);
    assert_eq!(lines.len(), 3);
}

/// The one in each submit counts: "w" is refused, whoever has logged in.
#[test]
fn a_share_of_a_name_that_is_refused_is_refused_until_the_rules_are_others() {
    let refuse = Config {
        names: Some(NameRule { chains: [bitcoin::Network::Bitcoin].into(), refuses: true }),
        ..config()
    };
    let mut bench = Sv1SessionHarness::new(refuse, WorkFeed::new(HARD, &solo()));
    let notify = notify(&bench.say(SUBSCRIBE));
    let login =
        |name: &str| format!(r#"{{"id":3,"method":"mining.authorize","params":["{name}","x"]}}"#);
    let own = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig";
    assert!(bench.say(&login(own)).contains("\"result\":true"));
    assert!(bench.say(&login("w")).contains("\"error\":[24,"));
    assert!(bench.share(&notify, 1).contains("\"error\":[24,"));
    assert!(bench.effects.shares.is_empty());
    let rules = Arc::new(config());
    let Sv1SessionHarness { session, feed, now, .. } = &mut bench;
    session.on_config(&rules, &feed.work, *now);
    assert_eq!(bench.share(&notify, 2), TRUE_9);
}

#[test]
fn a_second_subscribe_gets_the_same_answer_and_changes_nothing() {
    let mut bench = Sv1SessionHarness::solo();
    let first = bench.say(SUBSCRIBE);
    let notify = notify(&first);
    let second = bench.say(SUBSCRIBE);
    assert_eq!(first.lines().next(), second.lines().next());
    assert_eq!(second.lines().count(), 1);
    assert_eq!(bench.share(&notify, 1), TRUE_9);
}

#[test]
fn mined_shares_are_accepted_on_every_kind_of_work() {
    for (config, feed) in
        [(config(), WorkFeed::new(HARD, &solo())), (config(), WorkFeed::new(HARD, &pooled(0)))]
    {
        let mut bench = Sv1SessionHarness::new(config, feed);
        let notify_1 = notify(&bench.say(SUBSCRIBE));
        assert_eq!(bench.share(&notify_1, 0), TRUE_9);
        let notify_2 = notify(&bench.publish(2, BuildJob::SubsidyOnly, Announce::Now));
        assert!(notify_2.id.starts_with('N') && notify_2.clean && notify_2.branches.is_empty());
        assert_eq!(bench.share(&notify_2, 0), TRUE_9);
        let notify_3 = notify(&bench.publish(2, BuildJob::Blank, Announce::Now));
        assert!(!notify_3.clean && !notify_3.branches.is_empty());
        assert_eq!(bench.share(&notify_3, 0), TRUE_9);
        let notify_4 = notify(&bench.publish(2, BuildJob::Classes, Announce::Now));
        assert_eq!(bench.share(&notify_4, 0), TRUE_9);
        // The earlier job on this tip still counts.
        assert_eq!(bench.share(&notify_2, 1), TRUE_9);
        assert_eq!(bench.effects.shares.len(), 5);
        assert_eq!(bench.effects.tally.accepted(), 5);
        assert!(bench.share(&notify_1, 1).contains("[21,\"stale-prevblk\",null]"));
    }
}

#[test]
fn each_class_gets_its_own_coinbase() {
    for (agent, limit) in [("NiceHash/1", 500), ("bitaxe/BM1370", 6500), ("xminer-1.0", 16000)] {
        let mut config = config();
        config.classes = stratum::Classes::new(true, Vec::new());
        let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(FAR, &solo()));
        let said = bench.say(&SUBSCRIBE.replace("test/1", agent));
        assert!(notify(&said).coinbase(0).len() <= limit);
        assert_eq!(bench.session.user_agent(), agent);
        let rental = agent.starts_with("NiceHash");
        assert_eq!(told(&said), Some(if rental { 524_288.0 } else { 1e-9 }));
    }
}

#[test]
fn illegal_orders_are_answered() {
    let mut bench = Sv1SessionHarness::solo();
    let notify = notify(&Sv1SessionHarness::solo().say(SUBSCRIBE));
    assert!(bench.submit(&notify, 0, 0).contains("[25,\"not-subscribed\",null]"));
    // Nobody was given this job yet, and there is no work before the subscribe.
    assert_eq!(bench.publish(2, BuildJob::Classes, Announce::Now), "");
    bench.say(SUBSCRIBE);
    assert!(bench.submit(&notify, 0, 0).contains("[20,\"unknown-work\",null]"));
}

/// Every order of any three lines: an answer to each, and the session never ends.
#[test]
fn any_order_of_requests_is_survived() {
    let lines = [
        SUBSCRIBE,
        r#"{"id":"two","method":"mining.authorize","params":["u","x"]}"#,
        r#"{"id":3,"method":"mining.configure","params":[["version-rolling","minimum-difficulty"],{"minimum-difficulty.value":4}]}"#,
        r#"{"id":4,"method":"mining.suggest_difficulty","params":[2]}"#,
        r#"{"id":5,"method":"mining.extranonce.subscribe","params":[]}"#,
        r#"{"id":6,"method":"mining.submit","params":["u","1f","0000000000000000","6553f100","00000000","1fffe000"]}"#,
        r#"{"id":7,"method":"mining.submit","params":[]}"#,
        r#"{"id":8,"method":"client.get_version","params":[]}"#,
        r#"{"id":9,"method":"mining.ping"}"#,
        r#"{"id":10,"method":"mining.configure"}"#,
        r#"{"id":11,"method":"mining.suggest_difficulty","params":["many"]}"#,
        r#"{"id":13,"method":"mining.suggest_difficulty","params":["nan"]}"#,
        r#"{"id":12,"result":true,"error":null}"#,
    ];
    for a in lines {
        for b in lines {
            for c in lines {
                let mut bench = Sv1SessionHarness::solo();
                for line in [a, b, c] {
                    let said = bench.say(line);
                    assert_eq!(said.contains("\"id\":"), !line.contains("result"), "{line}");
                }
                bench.publish(2, BuildJob::Classes, Announce::Now);
                bench.later(5000).on_deadline().ok();
            }
        }
    }
}

#[test]
fn ids_of_any_type_are_echoed() {
    for id in ["7", "-1.5e3", "\"seven\"", "null", "[1,{\"a\":2}]", "{\"x\":[]}", "true"] {
        for method in ["mining.ping", "mining.submit", "no.such"] {
            let said = Sv1SessionHarness::solo()
                .say(&format!(r#"{{"id":{id},"method":"{method}","params":["a"]}}"#));
            assert!(said.starts_with(&format!("{{\"id\":{id},\"result\":")), "{said}");
        }
    }
    let said = Sv1SessionHarness::solo().say(r#"{"method":"mining.ping"}"#);
    assert_eq!(said, "{\"id\":null,\"result\":\"pong\",\"error\":null}\n");
}

#[test]
fn unknown_methods_are_answered_minus_3() {
    let said =
        Sv1SessionHarness::solo().say(r#"{"id":3,"method":"client.get_version","params":[]}"#);
    assert_eq!(said, "{\"id\":3,\"result\":null,\"error\":[-3,\"Method not found\",null]}\n");
}

#[test]
fn what_is_not_json_ends_the_session() {
    for line in ["GET / HTTP/1.1", "{", "[]", "7", "\u{16}\u{3}\u{1}", "{\"id\":1}}"] {
        assert_eq!(Sv1SessionHarness::solo().try_say(line), Err(NOT_JSON), "{line}");
    }
    for line in ["", " \r", "{}"] {
        assert_eq!(Sv1SessionHarness::solo().say(line), "", "{line:?}");
    }
}

#[test]
fn the_mask_is_told_with_the_next_job_and_never_to_an_s21_plus() {
    const CONFIGURE: &str = r#"{"id":2,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00ffffff"}]}"#;
    for (agent, wanted) in [("cgminer/4", true), ("Antminer S21+/1", false)] {
        let mut bench = Sv1SessionHarness::solo();
        let answer = bench.say(CONFIGURE);
        assert_eq!(
            answer,
            "{\"id\":2,\"result\":{\"version-rolling\":true,\"version-rolling.mask\":\"00ffe000\"},\"error\":null}\n"
        );
        let said = bench.say(&SUBSCRIBE.replace("test/1", agent));
        let mask = r#"{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}"#;
        assert_eq!(said.lines().any(|line| line == mask), wanted);
    }
}

#[test]
fn version_bits_are_accepted_without_negotiation() {
    let mut bench = Sv1SessionHarness::solo();
    let mut notify = notify(&bench.say(SUBSCRIBE));
    notify.version = "20202000".into();
    let nonce = notify.mine(5, bench.session.difficulty());
    let rolled = submit_line(&notify, 5, nonce).replace("\"]}", "\",\"00202000\"]}");
    assert_eq!(bench.say(&rolled), TRUE_9);
    assert_eq!(bench.effects.shares[0].version, 0x2020_2000);
    let foreign = rolled.replace("00202000", "40202000");
    assert!(bench.say(&foreign).contains("[23,\"bad-version\",null]"));
}

#[test]
fn a_block_is_an_effect_even_when_the_share_is_stale() {
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(EASY, &solo()));
    let old = notify(&bench.say(SUBSCRIBE));
    bench.publish(2, BuildJob::Classes, Announce::Now);
    bench.later(1000);
    for nonce in 0..32 {
        assert!(bench.submit(&old, 0, nonce).contains("stale-prevblk"));
    }
    assert!(bench.effects.blocks.len() > 4);
    // Pools want to know about it too, but about nothing else that is stale.
    assert_eq!(bench.effects.shares.len(), bench.effects.blocks.len());
    assert!(bench.effects.shares.iter().all(|share| share.is_block));
}

/// The C gateway has no quickdiff twin of work that pays the subsidy alone, so a pool knows none.
#[test]
fn subsidy_only_work_has_no_twin() {
    let suggest = r#"{"id":4,"method":"mining.suggest_difficulty","params":[1e-3]}"#;
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(HARD, &pooled(0)));
    bench.say(SUBSCRIBE);
    // On full work the suggestion takes effect at once.
    assert!(bench.say(&suggest.replace("1e-3", "1e-6")).contains("mining.notify"));
    bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
    assert!(!bench.say(suggest).contains("mining.notify"));
    let full = bench.publish(2, BuildJob::Classes, Announce::Now);
    assert!(full.contains("mining.set_difficulty") && full.contains("mining.notify"), "{full}");
}

/// As a valid share, as its duplicate, and when its own success has made it stale.
#[test]
fn a_block_that_is_submitted_again_goes_out_again_and_counts_once() {
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(EASY, &solo()));
    let job = notify(&bench.say(SUBSCRIBE));
    for nonce in 0..32 {
        bench.submit(&job, 0, nonce);
    }
    let found = bench.effects.blocks.len();
    assert!(found > 4);
    assert_eq!(bench.effects.tally.blocks, found as u64);
    for nonce in 0..32 {
        bench.submit(&job, 0, nonce);
    }
    bench.publish(2, BuildJob::Classes, Announce::Now);
    for nonce in 0..48 {
        assert!(bench.submit(&job, 0, nonce).contains("stale-prevblk"));
    }
    let late = bench.effects.blocks.len() - 3 * found;
    assert_eq!(bench.effects.tally.blocks, (found + late) as u64);
}

#[test]
fn jobs_expire_when_their_successor_is_long_due() {
    let mut bench = Sv1SessionHarness::solo();
    let old = notify(&bench.say(SUBSCRIBE));
    assert_eq!(bench.later(160).share(&old, 1), TRUE_9);
    assert!(bench.later(1).share(&old, 2).contains("[21,\"stale-work\",null]"));
}

#[test]
fn duplicates_are_refused_across_quickdiff_and_plain_work() {
    let mut bench = Sv1SessionHarness::subscribed();
    let said = bench.publish(2, BuildJob::Classes, Announce::Now);
    let plain = notify(&said);
    assert_eq!(bench.share(&plain, 1), TRUE_9);
    assert!(bench.share(&plain, 1).contains("[22,\"duplicate\",null]"));
}

#[test]
fn a_suggestion_takes_effect_at_once_on_work_that_repeats_nothing() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    let said = bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1e-8]}"#);
    assert!(said.starts_with("{\"id\":4,\"result\":true"));
    assert_eq!(told(&said), Some(1e-8));
    let twin = notify(&said);
    assert_eq!(twin.id, format!("Q{}", plain.id));
    assert!(twin.clean && twin.coinb1 != plain.coinb1);
    assert!(twin.coinb1.ends_with("4451"));
    assert_eq!(bench.share(&twin, 3), TRUE_9);
    assert!(bench.effects.shares[0].quickdiff);
    // What was in flight still counts, at its own difficulty.
    assert_eq!(bench.share(&plain, 3), TRUE_9);
    assert!(!bench.effects.shares[1].quickdiff);
    assert!(bench.effects.shares[1].difficulty < bench.effects.shares[0].difficulty);
    // Below the floor, the floor applies; another twin would repeat this one's work.
    let said = bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":["1e-9"]}"#);
    assert_eq!(said.lines().count(), 1);
    let said = bench.publish(1, BuildJob::Classes, Announce::Now);
    assert_eq!(told(&said), Some(1e-9));
}

#[test]
fn a_suggestion_before_the_subscribe_starts_there() {
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(FAR, &solo()));
    bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1000]}"#);
    assert_eq!(told(&bench.say(SUBSCRIBE)), Some(1000.0));
}

#[test]
fn the_pools_minimum_rules() {
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(HARD, &pooled(0)));
    let said = bench.say(SUBSCRIBE);
    // A power of two not below the floor.
    assert_eq!(told(&said), Some(2f64.powi(-29)));
    let strict = pooled(65536);
    let paced = Announce::Paced(Duration::from_secs(40));
    bench.feed.publish(BuildJob::Classes, &template(1, HARD, 5), &strict, paced);
    let said = bench.on_work();
    assert_eq!(told(&said), Some(65536.0));
    let target_byte = bench.feed.work.latest().coinbase(CoinbaseClass::Default).target_byte_index;
    assert_eq!(&notify(&said).coinb1[2 * target_byte..2 * target_byte + 2], "10");
}

#[test]
fn a_much_too_fast_miner_is_moved_by_quickdiff() {
    let mut config = config();
    config.shares_per_minute = 8;
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &solo()));
    let plain = notify(&bench.say(SUBSCRIBE));
    let mut said = String::new();
    for extranonce2 in 0..8 {
        assert!(said.lines().count() < 2, "{said}");
        bench.now += Duration::from_millis(100);
        said = bench.share(&plain, extranonce2);
    }
    assert!(said.starts_with(TRUE_9));
    assert!(told(&said).unwrap() >= 7e-8, "{said}");
    assert!(notify(&said).id.starts_with('Q'));
    // The flood in flight does not push it further.
    for extranonce2 in 8..40 {
        let nonce = plain.mine(extranonce2, Difficulty::new(1e-9).unwrap());
        assert_eq!(bench.submit(&plain, extranonce2, nonce), TRUE_9);
    }
}

/// 105,000 shares once came in three seconds at the previous difficulty.
#[test]
fn easy_terms_last_for_a_grace_after_a_raise() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[64e-9]}"#);
    let [easy, hard] = [1e-9, 64e-9].map(|it| Difficulty::new(it).unwrap());
    assert_eq!(bench.later(30).submit(&plain, 1, plain.mine(1, easy)), TRUE_9);
    let only_easy = (2..).find(|at| plain.mine(*at, easy) != plain.mine(*at, hard)).unwrap();
    let said = bench.later(1).submit(&plain, only_easy, plain.mine(only_easy, easy));
    assert!(said.contains("[23,\"high-hash\",null]"), "{said}");
    // What meets the new terms is just as good on the old job.
    assert_eq!(bench.submit(&plain, only_easy, plain.mine(only_easy, hard)), TRUE_9);
    assert!(bench.effects.shares[1].difficulty < 2e-9, "credited as its coinbase says");
}

/// The nonces of `extranonce2` that meet `difficulty`.
fn nonces(notify: &Notify, extranonce2: u64, difficulty: Difficulty) -> impl Iterator<Item = u32> {
    let (target, mut header) = (Target::from_difficulty(difficulty), notify.header(extranonce2, 0));
    (0..).filter(move |nonce: &u32| {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        target.is_met_by(&Hash256(sha256d::Hash::hash(&header).to_byte_array()))
    })
}

#[test]
fn a_flood_on_easy_terms_ends_before_its_grace() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1e-2]}"#);
    let mut good = nonces(&plain, 1, Difficulty::new(1e-9).unwrap());
    for nonce in good.by_ref().take(1024) {
        assert_eq!(bench.submit(&plain, 1, nonce), TRUE_9);
    }
    let said = bench.submit(&plain, 1, good.next().unwrap());
    assert!(said.contains("[23,\"high-hash\",null]"), "{said}");
}

#[test]
fn a_miner_with_too_many_shares_is_refused_and_asked_for_more() {
    let mut config = config();
    config.shares_per_minute = u32::MAX;
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &solo()));
    bench.session.seen.expect(0);
    let plain = notify(&bench.say(SUBSCRIBE));
    let mut good = nonces(&plain, 1, Difficulty::new(1e-9).unwrap());
    let mut sent = Vec::new();
    let refused = loop {
        // Not so fast that vardiff reacts.
        bench.now += Duration::from_millis(1);
        sent.push(good.next().unwrap());
        let said = bench.submit(&plain, 1, *sent.last().unwrap());
        if said != TRUE_9 {
            break said;
        }
        assert!(sent.len() < 20_000);
    };
    assert!(
        refused.starts_with("{\"id\":9,\"result\":null,\"error\":[20,\"too-many-shares\",null]}")
    );
    bench.later(1);
    let said = bench.submit(&plain, 1, good.next().unwrap());
    assert!(said.contains("too-many-shares"), "{said}");
    let raised = [refused, said].concat();
    assert_eq!(told(&raised), Some(4e-9), "{raised}");
    assert!(notify(&raised).id.starts_with('Q'));
    for nonce in sent.iter().take(sent.len() - 1) {
        let said = bench.submit(&plain, 1, *nonce);
        assert!(said.contains("[22,\"duplicate\",null]"), "{said}");
    }
    // There is room again when the job has expired.
    bench.publish(2, BuildJob::Classes, Announce::Now);
    bench.feed.work.jobs = [Arc::clone(bench.feed.work.latest())].into();
    let said = bench.publish(2, BuildJob::Classes, Announce::Now);
    assert_eq!(bench.share(&notify(&said), 1), TRUE_9);
}

#[test]
fn paced_work_is_spread_and_tips_are_not() {
    let interval = Duration::from_secs(40);
    let mut bench = Sv1SessionHarness::subscribed();
    assert_eq!(bench.publish(1, BuildJob::Classes, Announce::Paced(interval)), "");
    let due = bench.session.deadline();
    assert!(due <= bench.now + interval);
    bench.now = due;
    let said = bench.on_deadline().unwrap();
    assert!(!notify(&said).clean);
    assert_eq!(told(&said), None);
    // A tip goes out at once, whatever was due.
    bench.publish(1, BuildJob::Classes, Announce::Paced(interval));
    assert!(notify(&bench.publish(2, BuildJob::Classes, Announce::Paced(interval))).clean);
    // So does work after a publication that was missed, and work in place of empty work.
    bench.feed.work.sequence += 1;
    assert!(!notify(&bench.publish(2, BuildJob::SubsidyOnly, Announce::Paced(interval))).clean);
    assert!(!notify(&bench.publish(2, BuildJob::Classes, Announce::Paced(interval))).clean);
}

#[test]
fn the_same_work_is_sent_once() {
    let mut bench = Sv1SessionHarness::subscribed();
    assert_eq!(bench.on_work(), "");
}

#[test]
fn miners_are_sent_away_with_the_reason() {
    let mut bench = Sv1SessionHarness::subscribed();
    bench.feed.work.admission = Admission::Closed("no node answers".into());
    let away = bench.session.on_work(&bench.feed.work, bench.now, &mut bench.out);
    assert_eq!(away, Err(Closing::SentAway("no node answers".into())));
}

#[test]
fn silence_ends_a_session_and_first_lowers_its_difficulty() {
    let mut bench = Sv1SessionHarness::solo();
    assert_eq!(bench.session.deadline(), bench.now + Duration::from_secs(15));
    assert_eq!(bench.later(14).on_deadline(), Ok(String::new()));
    assert_eq!(bench.later(1).on_deadline(), Err(Closing::LoginTimeout(Duration::from_secs(15))));
    let mut config = config();
    config.difficulty_start = Difficulty::ONE;
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &solo()));
    bench.say(SUBSCRIBE);
    bench.later(60).on_deadline().unwrap();
    assert_eq!(told(&bench.publish(2, BuildJob::Classes, Announce::Now)), Some(0.5));
    // It has less time for its first share than for the next ones.
    let idle = bench.later(3540).on_deadline();
    assert_eq!(idle, Err(Closing::Idle(Duration::from_secs(3600))));
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    assert_eq!(bench.later(1).share(&plain, 1), TRUE_9);
    assert!(bench.later(7199).on_deadline().is_ok());
    let idle = bench.later(1).on_deadline();
    assert_eq!(idle, Err(Closing::Idle(Duration::from_secs(7200))));
}

#[test]
fn usernames_are_what_each_submit_says() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    for (extranonce2, (name, reads)) in
        [("a.b", "a.b"), ("", "bc1qnobody"), (r"q\u00e9\n", "qé\u{fffd}"), ("a.b", "a.b")]
            .into_iter()
            .enumerate()
    {
        let nonce = plain.mine(extranonce2 as u64, bench.session.difficulty());
        let line = submit_line(&plain, extranonce2 as u64, nonce)
            .replace("[\"w\"", &format!("[\"{name}\""));
        assert_eq!(bench.say(&line), TRUE_9);
        assert_eq!(&*bench.effects.shares[extranonce2].username.0, reads);
    }
    let line = submit_line(&plain, 99, plain.mine(99, bench.session.difficulty()));
    let line = line.replace("[\"w\"", &format!("[\"{}\"", "x".repeat(400)));
    assert!(bench.say(&line).contains("[24,\"unauthorized-worker\",null]"));
}

#[test]
fn malformed_submits_are_refused_not_fatal() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    let good = submit_line(&plain, 0, 0);
    let ntime = format!("\"{CURTIME:08x}\"");
    for (from, to, answer) in [
        ("\"0000000000000000\"", "\"00\"", "[20,\"bad-extranonce2-size\",null]"),
        ("\"0000000000000000\"", "\"000000000000000g\"", "[20,\"malformed-submit\",null]"),
        (&*ntime, "\"zz\"", "[20,\"malformed-submit\",null]"),
        (&*ntime, "7", "[20,\"malformed-submit\",null]"),
        (",\"00000000\"", "", "[20,\"malformed-submit\",null]"),
        ("\"1f\"", "\"Qx\"", "[20,\"unknown-work\",null]"),
        ("\"1f\"", "\"ffffffff1\"", "[20,\"unknown-work\",null]"),
        ("\"1f\"", "\"Q1f\"", "[20,\"unknown-work\",null]"),
    ] {
        assert!(good.contains(from), "{good} {from}");
        assert!(bench.say(&good.replace(from, to)).contains(answer), "{from} {to}");
    }
}

/// Ten years of tips, jobs and shares: memory and difficulty stay where they should.
#[test]
fn years_pass_in_a_moment() {
    let mut config = config();
    config.difficulty_min = Difficulty::ONE;
    config.difficulty_start = Difficulty::pow2(30);
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &solo()));
    bench.say(SUBSCRIBE);
    for i in 0..20_000u32 {
        let tip = u8::try_from(i / 10 % 251).unwrap();
        bench.later(40).publish(tip, BuildJob::Classes, Announce::Now);
        if bench.session.deadline() <= bench.now {
            // It never sends a share, so it is disconnected every two hours and comes back.
            if bench.on_deadline().is_err() {
                let work = &bench.feed.work;
                let config = Arc::clone(&bench.session.config);
                bench.session = Sv1Session::new(
                    config,
                    Origin::standalone(EXTRANONCE1, bench.now),
                    work,
                    bench.now,
                );
                bench.say(SUBSCRIBE);
            }
        }
    }
}

#[path = "firmware_tests.rs"]
mod firmware;

#[path = "reports_tests.rs"]
mod reports;

#[test]
fn a_flood_of_logins_is_told_why_and_ended() {
    let mut bench = Sv1SessionHarness::subscribed();
    let rules = LimitRules { logins_per_minute: 10, ..LimitRules::default() };
    bench.session.origin.roster.limiter().set_rules(rules, bench.now);
    bench.session.origin.peer = "203.0.113.7:5".parse().unwrap();
    let login = r#"{"id":4,"method":"mining.authorize","params":["bc1qme.a","x"]}"#;
    (0..10).for_each(|_| assert!(bench.say(login).contains("\"result\":true")));
    assert_eq!(bench.try_say(login), Err(Closing::TOO_MANY_LOGINS));
    assert!(
        bench.heard().contains(r#"{"id":4,"result":null,"error":[20,"too-many-logins",null]}"#)
    );
    bench.later(6);
    assert!(bench.say(login).contains("\"result\":true"), "ten a minute");
    bench.out.clear();
    stratum::Protocol::on_limit(&mut bench.session, &Closing::TOO_MANY_LOGINS, &mut bench.out);
    let told = bench.heard();
    assert!(
        told.contains("\"error\":[20,\"closed: you logged in more often than limits."),
        "{told}"
    );
}
