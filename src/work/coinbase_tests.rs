use super::*;

#[test]
fn heights_are_pushed_as_nodes_check_them() {
    for (height, push) in [
        (0, vec![0]),
        (1, vec![0x51]),
        (16, vec![0x60]),
        (17, vec![1, 17]),
        (127, vec![1, 127]),
        (128, vec![2, 128, 0]),
        (840_000, vec![3, 0x40, 0xd1, 0x0c]),
        (0x0080_0000, vec![4, 0, 0, 0x80, 0]),
    ] {
        let mut out = Vec::new();
        push_height(height, &mut out);
        assert_eq!(out, push, "{height}");
        if height > 0 {
            let theirs = bitcoin::script::Builder::new().push_int(i64::from(height)).into_script();
            assert_eq!(out, theirs.as_bytes(), "{height}");
        }
    }
}

use std::sync::Arc;

use bitcoin::consensus::Decodable;
use proptest::prelude::*;

use crate::work::{
    BlockLimits, Coinbaser, CoinbaserRequest, Nbits, PoolTerms, Template, TemplateKind, VoidNow,
};

/// What most templates here can pay.
const VALUE: u64 = 312_500_000;

fn template(height: u32, value: u64, fees: u64, weight: u32) -> Template {
    Template {
        source: "test".into(),
        kind: TemplateKind::Full,
        height,
        version: 0x2000_0000,
        prevhash: Hash256([7; 32]),
        nbits: Nbits::new(0x207f_ffff).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        coinbase_value: value,
        fees,
        witness_commitment: Some(
            [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[9; 32]].concat().into(),
        ),
        transactions: Box::default(),
        merkle_branches: Box::default(),
        total_size: weight / 4,
        total_weight: weight,
        total_sigops: 0,
        limits: BlockLimits::CONSENSUS,
    }
}

fn payout(tags: (Vec<u8>, Vec<u8>), splits: Option<Vec<(u64, Vec<u8>)>>) -> Payout {
    let pooled = splits.map(|splits| PoolTerms {
        pool: "pool".into(),
        prime_id: 0x0102_0304,
        min_difficulty: 0,
        coinbaser: Some(Arc::new(Coinbaser {
            id: 1,
            request: CoinbaserRequest { prevhash: Hash256([7; 32]), value: VALUE },
            outputs: splits
                .into_iter()
                .map(|(value, script)| PayoutOutput { value, script: script.into() })
                .collect(),
        })),
        settled: None,
        epoch: 1,
        series: 1,
        void_series: 0,
        void_now: VoidNow::default(),
    });
    Payout {
        script: [&[0, 20][..], &[1; 20]].concat().into(),
        tag_primary: tags.0.into(),
        tag_secondary: tags.1.into(),
        unique_id: 4242,
        own_script: None,
        pooled,
    }
}

fn decode(coinbase: &Coinbase) -> bitcoin::Transaction {
    let mut bytes = Vec::new();
    coinbase.write(Variant { target_byte: 14, quickdiff: false }, &[0xEE; 12], &mut bytes);
    assert_eq!(bytes.len(), coinbase.len());
    let mut left = bytes.as_slice();
    let transaction = bitcoin::Transaction::consensus_decode(&mut left).unwrap();
    assert!(left.is_empty());
    assert!(transaction.is_coinbase());
    transaction
}

#[test]
fn layout_is_what_pools_expect() {
    let template = template(840_000, VALUE, 0, 0);
    let payout = payout((b"pool".to_vec(), b"me".to_vec()), Some(vec![]));
    let coinbase = Coinbase::build(CoinbaseClass::Respectable, &template, &payout, 0xB10C);
    let script_sig = decode(&coinbase).input[0].script_sig.to_bytes();
    let expected = [
        &[3, 0x40, 0xd1, 0x0c, 8][..],
        b"pool\x0fme\x00",
        &[7, 14, 0x92, 0x10, 4, 3, 2, 1],
        &[0x0e, 0xb1, 0x0c],
        &[0xEE; 12],
    ]
    .concat();
    assert_eq!(script_sig, expected);
    assert_eq!(coinbase.coinb1[coinbase.target_byte_index], 0xFF);
}

#[test]
fn the_default_class_has_its_extranonce_in_an_output() {
    let splits = (0..40).map(|i| (1000 + i, vec![0x51; 22])).collect();
    let template = template(840_000, VALUE, 0, 0);
    let payout = payout((b"pool".to_vec(), vec![]), Some(splits));
    let coinbase = Coinbase::build(CoinbaseClass::Default, &template, &payout, 0xB10C);
    let transaction = decode(&coinbase);
    let at = transaction.output.iter().position(|out| out.script_pubkey.is_op_return()).unwrap();
    let script = transaction.output[at].script_pubkey.to_bytes();
    assert_eq!(script, [&[0x6a, 0x0e, 0xb1, 0x0c][..], &[0xEE; 12]].concat());
    assert!(at > 0, "coinb1 holds the first splits");
    assert_eq!(transaction.output[0].value.to_sat(), 1000, "in the pool's order");
}

/// Firmware that reads coinbases, and firmware that holds 255 bytes of them.
#[test]
fn long_tags_are_cut_for_the_extranonce() {
    let template = template(840_000, 312_500_000, 0, 0);
    for splits in [None, Some(vec![])] {
        // The pool chooses its own tag: where that alone is too long, as much of both as possible.
        for (primary, secondary, fits) in [
            (13, 60, true),
            (60, 60, true),
            (0, 60, true),
            (71, 0, true),
            (71, 60, true),
            (80, 60, false),
        ] {
            let payout = payout((vec![b'p'; primary], vec![b's'; secondary]), splits.clone());
            for id in CoinbaseClass::CLASSES.into_iter().filter(|id| *id != CoinbaseClass::Default)
            {
                let coinbase = Coinbase::build(id, &template, &payout, 0xB10C);
                let decoded = decode(&coinbase);
                let script = decoded.input[0].script_sig.to_bytes();
                assert_eq!(script.ends_with(&[0xEE; 12]), fits, "{primary}, {secondary}");
                let count = |wanted| script.iter().filter(|byte| **byte == wanted).count();
                let most = if !fits {
                    86
                } else if splits.is_some() {
                    72
                } else {
                    75
                };
                assert_eq!(count(b'p'), primary);
                assert_eq!(count(b's'), secondary.min(most.max(primary + 2) - primary - 2));
                assert!(!fits || id != CoinbaseClass::Tiny || coinbase.len() <= 255);
            }
        }
    }
}

#[test]
fn quickdiff_changes_the_end_of_coinb1_whatever_it_was() {
    let template = template(840_000, VALUE, 0, 0);
    let payout = payout((vec![], vec![]), None);
    for prefix in [0xB10C, 0x4451] {
        let coinbase = Coinbase::build(CoinbaseClass::Small, &template, &payout, prefix);
        let mut plain = Vec::new();
        let mut quick = Vec::new();
        coinbase.write_coinb1(9, false, &mut plain);
        coinbase.write_coinb1(9, true, &mut quick);
        assert_ne!(plain, quick);
        assert_eq!(plain.len(), quick.len());
        assert_eq!(plain[..plain.len() - 2], quick[..quick.len() - 2]);
    }
}

#[test]
fn a_split_of_another_tip_or_value_is_not_paid() {
    let mut template = template(840_000, VALUE, 0, 0);
    template.prevhash = Hash256([8; 32]);
    let payout = payout((vec![], vec![]), Some(vec![(1000, vec![0x51])]));
    let outputs = |template: &Template| {
        decode(&Coinbase::build(CoinbaseClass::Huge, template, &payout, 0)).output.len()
    };
    assert_eq!(outputs(&template), 2);
    template.prevhash = Hash256([7; 32]);
    assert_eq!(outputs(&template), 3);
    // The pool derives a split from its value, so one for another value is not paid either.
    template.coinbase_value += 1;
    assert_eq!(outputs(&template), 2);
}

#[test]
fn the_operators_own_split_is_not_cut() {
    let splits: Vec<_> = (0..60).map(|i| (1000 + i, vec![0x51; 22])).collect();
    let template = template(840_000, VALUE, 0, 0);
    let mut own = splits;
    own[59].1 = vec![0x52; 22];
    let mut payout = payout((vec![], vec![]), Some(own));
    let paid = |payout: &Payout| {
        let coinbase = Coinbase::build(CoinbaseClass::Small, &template, payout, 0);
        assert!(coinbase.len() <= 500);
        let outputs = decode(&coinbase).output;
        assert_eq!(outputs[0].value.to_sat(), 1000, "the pool's order stays");
        outputs.iter().any(|output| output.value.to_sat() == 1059)
    };
    assert!(!paid(&payout));
    payout.own_script = Some([0x52; 22].into());
    assert!(paid(&payout));
}

#[test]
fn classes_are_chosen_by_bytes() {
    for (bytes, class) in [
        (0, CoinbaseClass::Tiny),
        (499, CoinbaseClass::Tiny),
        (500, CoinbaseClass::Small),
        (2249, CoinbaseClass::Default),
        (2250, CoinbaseClass::S21),
        (usize::MAX, CoinbaseClass::Huge),
    ] {
        assert_eq!(CoinbaseClass::within(bytes), class, "{bytes}");
    }
}

proptest! {
    /// Whatever a pool says, coinbases decode, pay exactly what they may, and keep within every
    /// limit.
    #[test]
    fn coinbases_keep_their_limits(
        height in 0u32..2_000_000,
        subsidy in 0u64..5_000_000_000,
        fees in 0u64..100_000_000,
        weight in 0u32..3_999_000,
        sigops in 0u32..80_000,
        tags in (prop::collection::vec(any::<u8>(), 0..=60), prop::collection::vec(any::<u8>(), 0..=60)),
        splits in prop::option::of(prop::collection::vec(
            (0u64..1_000_000_000, prop::collection::vec(any::<u8>(), 2..=64)), 0..512)),
        prefix: u16,
    ) {
        let mut template = template(height, subsidy + fees, fees, weight);
        template.total_sigops = sigops;
        let mut payout = payout(tags, splits);
        if let Some(split) = payout.pooled.as_mut().and_then(|terms| terms.coinbaser.as_mut()) {
            Arc::get_mut(split).unwrap().request = CoinbaserRequest::of(&template);
        }
        for id in CoinbaseClass::CLASSES.into_iter().chain([CoinbaseClass::Empty]) {
            let coinbase = Coinbase::build(id, &template, &payout, prefix);
            let transaction = decode(&coinbase);
            let paid: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
            let due = if id == CoinbaseClass::Empty { subsidy } else { subsidy + fees };
            prop_assert_eq!(paid, due);
            prop_assert!((2..=100).contains(&transaction.input[0].script_sig.len()));
            let bare = Coinbase::build(CoinbaseClass::Tiny, &template, &payout, prefix).len() + 25;
            prop_assert!(coinbase.len() <= id.limit().max(bare), "{id:?} has {}", coinbase.len());
            let block = u32::try_from(4 * (85 + coinbase.len()) + 36).unwrap() + weight;
            let splits = transaction.output.len() > 3;
            prop_assert!(block <= 4_000_000 || !splits, "{id:?}: {block}");
        }
    }
}
