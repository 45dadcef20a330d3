use proptest::prelude::*;

use super::*;

/// Two transactions, the second with a witness, as a node on regtest writes them.
const GOLDEN: &str = r#"{"capabilities":["proposal"],"version":536870912,
  "rules":["csv","!segwit","taproot"],"vbavailable":{},"vbrequired":0,
  "previousblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
  "transactions":[
    {"data":"0200000001aa","txid":"1111111111111111111111111111111111111111111111111111111111111112",
     "hash":"1111111111111111111111111111111111111111111111111111111111111112",
     "depends":[],"fee":1000,"sigops":4,"weight":600},
    {"data":"02000000000102bbcc","txid":"2222222222222222222222222222222222222222222222222222222222222221",
     "hash":"3333333333333333333333333333333333333333333333333333333333333331",
     "depends":[1],"fee":234,"sigops":1,"weight":500}],
  "coinbaseaux":{},"coinbasevalue":5000001234,"longpollid":"0f9188f1\u00307",
  "target":"7fffff0000000000000000000000000000000000000000000000000000000000",
  "mintime":1296688603,"mutable":["time","transactions","prevblock"],"noncerange":"00000000ffffffff",
  "sigoplimit":80000,"sizelimit":4000000,"weightlimit":4000000,"curtime":1700000000,
  "bits":"207fffff","height":1,
  "default_witness_commitment":"6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"}"#;

fn parse(json: &str) -> Result<Parsed, GbtError> {
    let raw: RawTemplate<'_> = serde_json::from_str(json).unwrap();
    raw.into_template("node".into())
}

#[track_caller]
fn refused(from: &str, to: &str, error: &GbtError) {
    let json = GOLDEN.replacen(from, to, 1);
    assert_ne!(json, GOLDEN, "nothing replaced");
    assert_eq!(&parse(&json).unwrap_err(), error);
}

#[track_caller]
fn unparsed(from: &str, to: &str) {
    let json = GOLDEN.replacen(from, to, 1);
    assert_ne!(json, GOLDEN, "nothing replaced");
    assert!(serde_json::from_str::<RawTemplate<'_>>(&json).is_err());
}

#[test]
fn a_node_s_answer_becomes_a_template() {
    let Parsed { template, longpollid, cut, unmet } = parse(GOLDEN).unwrap();
    assert!(unmet.is_empty());
    assert_eq!((template.height, template.version), (1, 0x2000_0000));
    assert_eq!((template.curtime, template.mintime), (1_700_000_000, 1_296_688_603));
    assert_eq!(template.nbits.get(), 0x207f_ffff);
    assert_eq!(template.prevhash.0[..2], [0x06, 0x22]);
    assert_eq!((template.coinbase_value, template.fees), (5_000_001_234, 1234));
    assert_eq!(template.subsidy(), 5_000_000_000);
    assert_eq!((template.total_size, template.total_weight, template.total_sigops), (15, 1100, 5));
    assert_eq!(template.witness_commitment.as_ref().unwrap().len(), 38);
    assert_eq!(&*template.transactions[0].raw, [2, 0, 0, 0, 1, 0xaa]);
    assert_eq!(&*template.transactions[1].raw, [2, 0, 0, 0, 0, 1, 2, 0xbb, 0xcc]);
    assert_eq!(template.transactions[1].wtxid.0[0], 0x31);
    assert_eq!(template.merkle_branches.len(), 2);
    assert_eq!((longpollid.as_deref(), cut), (Some("0f9188f107"), 0));
}

#[test]
fn what_a_block_must_be_is_kept_or_the_template_refused_by_name() {
    refused("\"!segwit\"", "\"!segwit\",\"!eggs\"", &GbtError::Rule("eggs".into()));
    // Without the mark a miner need not know it.
    assert!(parse(&GOLDEN.replace("\"taproot\"", "\"taproot\",\"eggs\"")).is_ok());
    assert!(parse(&GOLDEN.replace("\"taproot\"", "\"!taproot\",\"!signet\"")).is_ok());
    let required =
        |bits: u32| GOLDEN.replace("\"vbrequired\":0", &format!("\"vbrequired\":{bits}"));
    assert_eq!(parse(&required(3)).unwrap().template.version, 0x2000_0003);
    // Miners may roll these.
    refused("\"vbrequired\":0", "\"vbrequired\":8192", &GbtError::VersionBits(8192));
}

#[test]
fn wishes_for_the_coinbase_are_told_by_name() {
    let json = GOLDEN.replace("\"coinbaseaux\":{}", r#""coinbaseaux":{"flags":"","motto":"00ff"}"#);
    assert_eq!(parse(&json).unwrap().unmet, ["motto".into()]);
}

#[test]
fn hostile_fields_are_refused() {
    let transaction = |at, field| GbtError::Transaction { at, field };
    refused(
        "0f9188f1",
        "0f9188",
        &GbtError::Prevhash(
            "0f91883cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206".into(),
        ),
    );
    refused("207fffff", "20800001", &GbtError::Bits("20800001".into()));
    refused("\"height\":1", "\"height\":0", &GbtError::Height(0));
    refused("\"height\":1", "\"height\":4294967295", &GbtError::Height(u32::MAX));
    refused("0200000001aa", "0200000001a", &transaction(0, "data"));
    refused("0200000001aa", "0200000001ax", &transaction(0, "data"));
    refused("0200000001aa", "", &transaction(0, "data"));
    refused("\"txid\":\"22", "\"txid\":\"2x", &transaction(1, "txid"));
    refused("\"hash\":\"33", "\"hash\":\"333", &transaction(1, "hash"));
    refused("\"depends\":[1]", "\"depends\":[2]", &transaction(1, "depends"));
    refused("\"depends\":[1]", "\"depends\":[0]", &transaction(1, "depends"));
    refused("\"weight\":600", "\"weight\":4000000", &GbtError::Total("weight"));
    refused("\"weight\":600", "\"weight\":4294967295", &GbtError::Total("weight"));
    refused("\"sigops\":4", "\"sigops\":80000", &GbtError::Total("sigops"));
    refused("\"sizelimit\":4000000", "\"sizelimit\":14", &GbtError::Total("size"));
    refused("\"fee\":1000", "\"fee\":18446744073709551615", &GbtError::Total("fee"));
    refused("6a24aa21a9ed", "6a24aa21a9ee", &GbtError::WitnessCommitment);
    refused("d836974e8cf9", "d836974e8c", &GbtError::WitnessCommitment);
    refused("default_witness", "no_witness", &GbtError::WitnessCommitment);
    let value = |value, fees| GbtError::CoinbaseValue { value, fees };
    refused("5000001234", "1233", &value(1233, 1234));
    refused("5000001234", "2100000000000001", &value(2_100_000_000_000_001, 1234));
    unparsed("\"fee\":1000", "\"fee\":-1");
    unparsed("\"fee\":1000,", "");
    unparsed("\"height\":1", "\"height\":4294967296");
    unparsed("\"mintime\":1296688603,", "");
}

#[test]
fn before_segwit_there_is_no_commitment_and_no_weight() {
    let json = GOLDEN
        .replace("\"!segwit\",", "")
        .replace("default_witness", "no_witness")
        .replace(",\"weight\":600", "")
        .replace(
            "333333333333333333333333333333333333333333333333333333333333333",
            "222222222222222222222222222222222222222222222222222222222222222",
        );
    let template = parse(&json).unwrap().template;
    assert_eq!(template.witness_commitment, None);
    assert_eq!(template.total_weight, 6 * 4 + 500);
    // With a witness in a transaction, though, a commitment must be there.
    let json = GOLDEN.replace("\"!segwit\",", "").replace("default_witness", "no_witness");
    assert_eq!(parse(&json).unwrap_err(), GbtError::WitnessCommitment);
}

#[test]
fn a_clock_behind_the_median_is_put_right() {
    let template = parse(&GOLDEN.replace("1700000000", "5")).unwrap().template;
    assert_eq!(template.curtime, template.mintime);
}

/// The machine's clock may be the wrong one: a block whose time was moved up on its word is invalid.
#[test]
fn a_time_that_this_machines_clock_doubts_is_moved_only_where_that_is_safe() {
    const TOLD: u32 = 1_800_000_000;
    let told = |now: i32, mintime: i32| {
        let mut parsed = parse(GOLDEN).unwrap();
        let at = |seconds| TOLD.checked_add_signed(seconds).unwrap();
        (parsed.template.curtime, parsed.template.mintime) = (TOLD, at(mintime));
        let checked = parsed.check(Network::Bitcoin, at(now));
        checked.map(|_| i64::from(parsed.template.curtime) - i64::from(TOLD))
    };
    assert_eq!(told(3 * 3600, -600), Ok(0));
    assert_eq!(told(-3 * 3600, -600), Ok(-600));
    assert_eq!(told(-3 * 3600, -4 * 3600), Ok(-3 * 3600));
    assert!(matches!(told(-90_000, -60), Err(GbtError::Future { .. })));
}

fn template_json(transactions: usize) -> String {
    let each = |at: usize| {
        let depends = if at > 0 { at.to_string() } else { String::new() };
        format!(
            r#"{{"data":"02000000","txid":"{at:064x}","hash":"{:064x}","depends":[{depends}],"fee":1,"sigops":1,"weight":16}}"#,
            at + 1_000_000
        )
    };
    let list: Vec<String> = (0..transactions).map(each).collect();
    let start = GOLDEN.find("\"transactions\":[").unwrap() + 16;
    let end = GOLDEN.find("],\n  \"coinbaseaux\"").unwrap();
    let mut json = GOLDEN.to_owned();
    json.replace_range(start..end, &list.join(","));
    json
}

#[test]
fn too_many_transactions_are_cut_and_committed_to_anew() {
    let Parsed { template, cut, .. } = parse(&template_json(TRANSACTIONS_MAX + 3)).unwrap();
    assert_eq!((template.transactions.len(), cut), (TRANSACTIONS_MAX, 3));
    assert_eq!(template.coinbase_value, 5_000_001_234 - 3);
    assert_eq!(template.fees, TRANSACTIONS_MAX as u64);
    assert_eq!(template.merkle_branches.len(), 14);
    let wtxids: Vec<_> = std::iter::once([0; 32])
        .chain(template.transactions.iter().map(|tx| tx.wtxid.0))
        .map(<bitcoin::hashes::sha256d::Hash as bitcoin::hashes::Hash>::from_byte_array)
        .collect();
    let root = bitcoin::merkle_tree::calculate_root(wtxids.into_iter()).unwrap();
    let root = bitcoin::WitnessMerkleNode::from_raw_hash(root);
    let theirs = bitcoin::Block::compute_witness_commitment(&root, &[0; 32]);
    let ours = template.witness_commitment.unwrap();
    assert_eq!(ours[..6], COMMITMENT_HEAD);
    assert_eq!(ours[6..], *AsRef::<[u8]>::as_ref(&theirs));
    assert_eq!(parse(&template_json(TRANSACTIONS_MAX)).unwrap().cut, 0);
}

proptest! {
    #[test]
    fn whatever_a_node_sends_nothing_panics(
        at in 0..GOLDEN.len(), byte in any::<u8>(), drop in 0usize..4,
    ) {
        let mut json = GOLDEN.as_bytes().to_vec();
        json[at] = byte;
        json.drain(at..(at + drop).min(GOLDEN.len()));
        if let Ok(text) = std::str::from_utf8(&json)
            && let Ok(raw) = serde_json::from_str::<RawTemplate<'_>>(text)
        {
            let _ = raw.into_template("node".into());
        }
    }
}

#[test]
fn a_rule_is_kept_known_or_allowed() {
    let json = GOLDEN.replacen("\"taproot\"", "\"!future\",\"!blake2b\"", 1);
    let allowing = |names: &[&str]| {
        let allowed: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        let raw: RawTemplate<'_> = serde_json::from_str(&json).unwrap();
        raw.allowing(&allowed).into_template("node".into()).unwrap_err()
    };
    assert_eq!(allowing(&[]), GbtError::Rule("future".into()));
    assert_eq!(allowing(&["past"]), GbtError::Rule("future".into()));
    assert_eq!(allowing(&["future", "blake2b"]), GbtError::Rule("blake2b".into()));
}
