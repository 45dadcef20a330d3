//! Sessions with firmware, as modelled in `stratum::firmware`.

#[path = "decoders_tests.rs"]
mod decoders;

use super::*;
use crate::stratum::firmware::{
    NERDMINER_COINBASE_MAX, NERDMINER_JSON_MAX, NERDQAXE_LINE_MAX, SPLITS, pooled, read_coinbase,
    template,
};

/// Connects as `agent`, and returns the session with the answer.
fn arrives(agent: &str, config: Config, splits: usize) -> (Sv1SessionHarness, String) {
    let payout = pooled(1, splits);
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &payout));
    bench.feed.publish(BuildJob::Classes, &template(1), &payout, Announce::Now);
    let said = bench.say(&SUBSCRIBE.replace("test/1", agent));
    (bench, said)
}

fn publish(bench: &mut Sv1SessionHarness, tip: u8, splits: usize, what: BuildJob) -> String {
    bench.feed.publish(what, &template(tip), &pooled(tip, splits), Announce::Now);
    bench.on_work()
}

/// The outputs of the coinbase, properly decoded.
fn outputs(notify: &Notify) -> Vec<(u64, Vec<u8>)> {
    let bytes = notify.coinbase(1);
    let transaction: bitcoin::Transaction = bitcoin::consensus::deserialize(&bytes).unwrap();
    let output = |out: bitcoin::TxOut| (out.value.to_sat(), out.script_pubkey.to_bytes());
    transaction.output.into_iter().map(output).collect()
}

/// The longest line of what was sent.
fn longest(said: &str) -> usize {
    said.lines().map(str::len).max().unwrap()
}

/// What NerdMiner hashes: as much of the coinbase as its buffer holds.
fn nerdminer(notify: &Notify, extranonce2: u64, difficulty: Difficulty) -> u32 {
    let text =
        [&notify.coinb1, "abcd0001", &format!("{extranonce2:016x}"), &notify.coinb2].concat();
    let held = &text[..text.len().min(NERDMINER_COINBASE_MAX)];
    let coinbase = unhex(&held[..held.len() & !1]);
    let cut = Notify {
        coinb1: hex(&coinbase[..unhex(&notify.coinb1).len()]),
        coinb2: hex(&coinbase[unhex(&notify.coinb1).len() + 12..]),
        ..Notify::clone(notify)
    };
    cut.mine(extranonce2, difficulty)
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = Vec::new();
    crate::sv1::hex::push_hex(bytes, &mut hex);
    String::from_utf8(hex).unwrap()
}

/// Bytes of ArduinoJson's document on a 32-bit machine: 16 for each node, each string with its zero.
fn arduino_json(line: &str) -> usize {
    // Our strings have no escapes, so whatever is between quotes is one string.
    let parts = || line.split('"').enumerate();
    let strings = parts().filter(|(at, _)| at % 2 == 1).map(|(_, text)| text.len() + 1);
    let between = parts().filter(|(at, _)| at % 2 == 0).flat_map(|(_, text)| text.bytes());
    // Every node but the first comes after one of these.
    let nodes = between.filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() + 1;
    16 * nodes + strings.sum::<usize>()
}

#[test]
fn shares_of_a_nerdminer_are_accepted_on_every_kind_of_work() {
    for agent in ["NerdMinerV2/V1.8.3", "HAN_SOLOminer/V1.8.3"] {
        for splits in SPLITS {
            let (mut bench, said) = arrives(agent, config(), splits);
            let mut lines = vec![said];
            for (tip, what) in [
                (2, BuildJob::SubsidyOnly),
                (2, BuildJob::Blank),
                (2, BuildJob::Classes),
                (3, BuildJob::Classes),
            ] {
                let extranonce2 = lines.len() as u64;
                let (line, difficulty) = (lines.last().unwrap(), bench.session.difficulty());
                let nonce = nerdminer(&notify(line), extranonce2, difficulty);
                assert_eq!(bench.submit(&notify(line), extranonce2, nonce), TRUE_9, "{line}");
                lines.push(publish(&mut bench, tip, splits, what));
            }
            for line in lines.iter().flat_map(|said| said.lines()) {
                assert!(arduino_json(line) <= NERDMINER_JSON_MAX, "{}", arduino_json(line));
            }
        }
    }
}

/// The agents whose firmware shows or checks whom the coinbase pays.
const READERS: [&str; 10] = [
    "bitaxe/BM1370/v2.15.0",
    "NerdQAxe+/BM1368/v1.0.38",
    "NerdQAxe++/BM1370/v1.0.38",
    "NerdAxe/BM1370/v1.0.38",
    "NerdOCTAXE-γ/BM1370/v1.0.38",
    "NerdEKO/BM1370/v1.0.38",
    "NerdHaxe-γ/BM1370/v1.0.38",
    "NerdQX/BM1370/v1.0.38",
    "Q1370/BM1370/v1.0.38",
    "Q1373/BM1373/v1.0.38",
];

#[test]
fn firmware_that_reads_payouts_reads_them_right() {
    for agent in READERS {
        for splits in SPLITS {
            let (mut bench, said) = arrives(agent, config(), splits);
            let mut lines = vec![(840_001, said)];
            for (tip, what) in
                [(2, BuildJob::SubsidyOnly), (2, BuildJob::Blank), (2, BuildJob::Classes)]
            {
                lines.push((840_002, publish(&mut bench, tip, splits, what)));
            }
            for (at, (height, said)) in lines.iter().enumerate() {
                assert!(longest(said) <= NERDQAXE_LINE_MAX, "{agent}: {}", longest(said));
                let notify = notify(said);
                let shown = read_coinbase(&unhex(&notify.coinb1), &unhex(&notify.coinb2), 12);
                let shown = shown.expect(agent);
                assert_eq!(shown.height, *height, "{agent}");
                assert_eq!(shown.outputs, outputs(&notify), "{agent}, {splits} splits");
                assert_eq!(shown.total(), if at == 1 { 312_500_000 } else { 312_550_000 });
                let pays_splits = splits > 0 && matches!(at, 0 | 3);
                assert_eq!(shown.to_user(), if pays_splits { 1_000_003 } else { 0 }, "{agent}");
                let said = bench.share(&notify, 1);
                assert!(if at == 0 { said.contains("stale-prevblk") } else { said == TRUE_9 });
            }
        }
    }
}

/// All but the default, which old Antminers need as it is.
#[test]
fn every_class_but_the_default_can_be_read() {
    for (bytes, limit) in
        [(1, 255), (500, 500), (755, 755), (6500, 6500), (16_000, 16_000), (2250, 2250)]
    {
        for splits in SPLITS {
            let mut config = config();
            let own = stratum::ClassRule::within("^mine/", bytes, None);
            config.classes = stratum::Classes::new(true, vec![own]);
            let (_, said) = arrives("mine/1", config, splits);
            let notify = notify(&said);
            assert!(notify.coinbase(1).len() <= limit, "{}", notify.coinbase(1).len());
            let shown = read_coinbase(&unhex(&notify.coinb1), &unhex(&notify.coinb2), 12);
            let is_right = shown.is_some_and(|shown| shown.outputs == outputs(&notify));
            assert_eq!(is_right, bytes != 755, "{bytes} bytes, {splits} splits");
        }
    }
}

/// `mining.set_difficulty` is truncated to a whole number by NerdQAxe (`as<uint32_t>`,
/// stratum_api.cpp).
#[test]
fn difficulties_of_one_and_more_are_whole_numbers() {
    let mut config = config();
    config.difficulty_min = Difficulty::new(0.001).unwrap();
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(FAR, &solo()));
    bench.say(SUBSCRIBE);
    for (wanted, given) in [(1746.23, 1746.0), (1.5, 1.0), (0.75, 0.75), (7.999, 7.0)] {
        let said = bench.say(&format!(
            r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{wanted}]}}"#
        ));
        assert_eq!(told(&said), Some(given), "{said}");
        let far = crate::work::fixture::template(1, FAR, 5);
        bench.feed.publish(BuildJob::Classes, &far, &solo(), Announce::Now);
        bench.on_work();
    }
}

/// BFGMiner keeps asking if it is told that there is no such method.
#[test]
fn a_bfgminer_that_asks_for_transactions_gets_none() {
    let said = Sv1SessionHarness::subscribed()
        .say(r#"{"id":"txlist1f","method":"mining.get_transactions","params":["1f"]}"#);
    assert_eq!(said, "{\"id\":\"txlist1f\",\"result\":[],\"error\":null}\n");
}
