//! Coinbases of every class, drawn as who gets what.

use std::sync::Arc;

use super::*;
use crate::{
    api::shapes::Class,
    work::{
        BlockLimits, Coinbaser, CoinbaserRequest, Hash256, Nbits, PayoutOutput, PoolTerms,
        Template, TemplateKind, VoidNow,
    },
};

const SUBSIDY: u64 = 312_500_000;
const FEES: u64 = 4_123_871;

fn p2wpkh(key: u8) -> Box<[u8]> {
    [[0x00, 0x14].as_slice(), &[key; 20]].concat().into()
}

fn template() -> Template {
    Template {
        source: "n".into(),
        kind: TemplateKind::Full,
        height: 924_512,
        version: 0x2000_0000,
        prevhash: Hash256([7; 32]),
        nbits: Nbits::new(0x1d00_ffff).unwrap(),
        curtime: 200,
        mintime: 101,
        coinbase_value: SUBSIDY + FEES,
        fees: FEES,
        witness_commitment: Some([&COMMITMENT[..], &[9; 32]].concat().into()),
        transactions: Box::default(),
        merkle_branches: Box::default(),
        total_size: 0,
        total_weight: 0,
        total_sigops: 0,
        limits: BlockLimits::CONSENSUS,
    }
}

fn solo(own: &[u8]) -> Payout {
    Payout {
        script: own.into(),
        tag_primary: b"gatewayd".as_slice().into(),
        tag_secondary: Box::default(),
        unique_id: 4242,
        own_script: None,
        pooled: None,
    }
}

/// The pool is 1, the operator 2, others 3 and up.
fn pooled() -> Payout {
    let split = |key, value| PayoutOutput { value, script: p2wpkh(key) };
    let request = CoinbaserRequest { prevhash: Hash256([7; 32]), value: SUBSIDY + FEES };
    let coinbaser = Coinbaser {
        id: 1,
        request,
        outputs: [split(3, 100_000_000), split(2, 50_000_000), split(4, 10_000_000)].into(),
    };
    Payout {
        script: p2wpkh(1),
        pooled: Some(PoolTerms {
            pool: "pool:1".into(),
            prime_id: 7,
            min_difficulty: 1,
            coinbaser: Some(Arc::new(coinbaser)),
            settled: Some(request),
            epoch: 1,
            series: 1,
            void_series: 0,
            void_now: VoidNow::default(),
        }),
        ..solo(&p2wpkh(2))
    }
}

fn decoded(id: CoinbaseClass, payout: &Payout) -> shapes::Coinbase {
    let own = p2wpkh(2);
    let parties = Payees { payout, own_script: Some(&own), network: Some(Network::Bitcoin) };
    decode(&Coinbase::build(id, &template(), payout, 5), 3, parties).unwrap()
}

#[test]
fn everybody_is_named_and_the_sum_is_right() {
    let payout = pooled();
    for id in [CoinbaseClass::Small, CoinbaseClass::Default, CoinbaseClass::Huge] {
        let coinbase = decoded(id, &payout);
        assert_eq!(coinbase.value_sats, SUBSIDY + FEES, "{id:?}");
        assert_eq!(coinbase.yours_sats, 50_000_000);
        assert_eq!(coinbase.miners, 3);
        let of = |kind| coinbase.outputs.iter().filter(|it| it.kind == kind).count();
        assert_eq!(of(OutputKind::Split), 2, "{id:?}");
        assert_eq!((of(OutputKind::Pool), of(OutputKind::Commitment)), (1, 1));
        assert_eq!(of(OutputKind::Extranonce), usize::from(id == CoinbaseClass::Default));
        assert!(coinbase.size_bytes <= coinbase.size_limit_bytes.unwrap());
        let paid = coinbase.outputs.iter().filter(|it| it.value_sats > 0);
        assert!(paid.clone().all(|it| it.address.as_ref().unwrap().starts_with("bc1q")));
        assert_eq!(paid.map(|it| it.value_sats).sum::<u64>(), SUBSIDY + FEES);
    }
}

#[test]
fn work_without_a_split_is_the_pools_and_empty_work_pays_the_subsidy() {
    let tiny = decoded(CoinbaseClass::Tiny, &pooled());
    assert_eq!((tiny.class, tiny.size_limit_bytes, tiny.yours_sats), (Class::Tiny, None, 0));
    let empty = decoded(CoinbaseClass::Empty, &pooled());
    assert_eq!((empty.class, empty.value_sats), (Class::Empty, SUBSIDY));
    assert_eq!(empty.outputs[0].kind, OutputKind::Pool);
}

#[test]
fn solo_is_all_yours_even_after_the_address_changed() {
    for own in [2, 9] {
        let coinbase = decoded(CoinbaseClass::Default, &solo(&p2wpkh(own)));
        assert_eq!(coinbase.yours_sats, SUBSIDY + FEES);
    }
}

#[test]
fn scripts_without_an_address_have_none() {
    assert_eq!(address(&[0x51], Network::Bitcoin), None);
    let testnet = address(&p2wpkh(1), Network::Regtest).unwrap();
    assert!(testnet.starts_with("bcrt1q"), "{testnet}");
}
