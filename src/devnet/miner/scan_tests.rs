use std::collections::HashSet;

use bitcoin::{block::Header, consensus::deserialize};

use super::*;
use crate::{devnet::miner::message::Root, work::Nbits};

fn job() -> StratumJob {
    StratumJob {
        id: "1".into(),
        prevhash: Hash256([7; 32]),
        root: Arc::new(Root::Coinbase {
            coinb1: vec![1, 2, 3],
            coinb2: vec![4, 5],
            merkle_branch: vec![Hash256([8; 32]), Hash256([9; 32])],
        }),
        version: 0x2000_0000,
        nbits: Nbits::new(0x207f_ffff).unwrap(),
        ntime: 1_700_000_000,
        clean: true,
    }
}

fn work(extranonce2_len: usize, version_mask: Option<u32>, difficulty: f64) -> Arc<HashWork> {
    let extranonce = Extranonce { extranonce1: vec![0xAA; 4], extranonce2_len };
    Arc::new(HashWork::new(1, Arc::new(job()), extranonce, version_mask, difficulty))
}

/// The header of a share, put together by the `bitcoin` crate.
fn header(found: &Found) -> Header {
    let job = &found.work.job;
    let root = match &*job.root {
        Root::Given(root) => *root,
        Root::Coinbase { coinb1, coinb2, merkle_branch } => {
            let mut coinbase = coinb1.clone();
            coinbase.extend(&found.work.extranonce.extranonce1);
            coinbase.extend(found.extranonce2());
            coinbase.extend(coinb2);
            merkle_branch.iter().fold(Hash256::sha256d(&coinbase), |hash, branch| {
                Hash256::sha256d(&[hash.0, branch.0].concat())
            })
        }
    };
    let mut bytes = found.version.to_le_bytes().to_vec();
    bytes.extend(job.prevhash.0);
    bytes.extend(root.0);
    bytes.extend(found.ntime.to_le_bytes());
    bytes.extend(job.nbits.get().to_le_bytes());
    bytes.extend(found.nonce.to_le_bytes());
    deserialize(&bytes).unwrap()
}

fn scan_all(work: &Arc<HashWork>, cursor: &mut Cursor, hashes: u32) -> Vec<Found> {
    let (mut found, mut done) = (Vec::new(), 0);
    while done < hashes {
        match cursor.scan(work, 1000, &mut found) {
            0 => break,
            count => done += count,
        }
    }
    found
}

#[test]
fn every_share_meets_its_target_and_none_repeats() {
    let work = work(8, Some(0x1fff_e000), 1e-7);
    let found = scan_all(&work, &mut Cursor::default(), 200_000);
    // 2^32 × 1e-7 = 429 hashes for each.
    assert!((300..700).contains(&found.len()), "{}", found.len());
    let target = bitcoin::Target::from_le_bytes(work.target.to_le_bytes());
    let headers: HashSet<_> = found
        .iter()
        .map(|found| {
            let header = header(found);
            assert!(target.is_met_by(header.block_hash()));
            let is_block = header.target().is_met_by(header.block_hash());
            assert_eq!(found.meets_nbits, is_block);
            assert_eq!(found.version & !0x1fff_e000, 0x2000_0000);
            header.block_hash()
        })
        .collect();
    assert_eq!(headers.len(), found.len());
    let kinds = |kind: fn(&Found) -> u64| found.iter().map(kind).collect::<HashSet<_>>().len();
    assert_eq!(kinds(|found| u64::from(found.version)), 16);
    assert!(kinds(|found| u64::from(found.extranonce2()[7])) > 2);
}

#[test]
fn no_hash_that_meets_the_target_is_missed() {
    let work = work(8, None, 1e-8);
    let mut found = Vec::new();
    let mut cursor = Cursor::default();
    cursor.scan(&work, NONCE_LOW, &mut found);
    let model = found[0].clone();
    let target = bitcoin::Target::from_le_bytes(work.target.to_le_bytes());
    let expected = (0..NONCE_LOW)
        .filter(|&nonce| target.is_met_by(header(&Found { nonce, ..model.clone() }).block_hash()));
    assert!(found.iter().map(|found| found.nonce).eq(expected));
}

#[test]
fn without_version_rolling_the_version_stays() {
    let found = scan_all(&work(8, None, 1e-7), &mut Cursor::default(), 100_000);
    assert!(found.iter().all(|found| found.version == 0x2000_0000));
    assert!(found.iter().all(|found| found.version_bits().is_none()));
    let found = scan_all(&work(8, Some(0), 1e-7), &mut Cursor::default(), 100_000);
    assert!(found.iter().all(|found| found.version_bits() == Some(0)));
}

#[test]
fn when_extranonce2_is_short_nonces_go_further() {
    for len in [0, 1] {
        let work = work(len, None, 1e-7);
        let found = scan_all(&work, &mut Cursor::default(), 3 << 20);
        assert!(found.iter().all(|found| found.extranonce2().len() == len));
        assert!(found.iter().any(|found| found.nonce > NONCE_LOW));
        let hashes: HashSet<_> = found.iter().map(|found| header(found).block_hash()).collect();
        assert_eq!(hashes.len(), found.len());
    }
}

#[test]
fn a_given_root_is_mined_with_nonce_and_version_alone() {
    let job = StratumJob { root: Arc::new(Root::Given(Hash256([6; 32]))), ..job() };
    let target = Target::from_difficulty(Difficulty::new(1e-7).unwrap());
    let (job, extranonce) = (Arc::new(job), Extranonce::default());
    let work = Arc::new(HashWork::with_target(1, job, extranonce, Some(0x1fff_e000), target));
    let found = scan_all(&work, &mut Cursor::default(), 200_000);
    let headers: HashSet<_> = found.iter().map(header).collect();
    assert_eq!(headers.len(), found.len());
    assert!(headers.len() > 300);
    let target = bitcoin::Target::from_le_bytes(target.to_le_bytes());
    assert!(headers.iter().all(|header| target.is_met_by(header.block_hash())));
    assert!(found.iter().all(|found| found.extranonce2().is_empty()));
}

#[test]
fn the_ntime_limit_ends_the_scan() {
    let work = work(0, None, 1.0);
    let mut cursor = Cursor { ntime_ahead: NTIME_AHEAD_S_MAX, ..Cursor::default() };
    cursor.nonce_high = u32::MAX >> 12;
    let mut found = Vec::new();
    assert_eq!(cursor.scan(&work, u32::MAX, &mut found), NONCE_LOW);
    assert_eq!(cursor.scan(&work, u32::MAX, &mut found), 0);
    cursor.restart();
    assert_eq!(cursor.scan(&work, 5, &mut found), 5);
}

#[test]
fn a_restarted_cursor_repeats_nothing() {
    let work = work(8, None, 1e-8);
    let mut cursor = Cursor::default();
    let mut hashes = HashSet::new();
    for _ in 0..4 {
        cursor.restart();
        for found in scan_all(&work, &mut cursor, 10_000) {
            assert!(hashes.insert(header(&found).block_hash()));
        }
    }
}

#[test]
fn index_bits_go_where_the_mask_has_bits() {
    assert_eq!(spread(0b101, 0b1101_0000), 0b1001_0000);
    assert_eq!(spread(u32::MAX, 0x1fff_e000), 0x1fff_e000);
    assert_eq!(spread(7, 0), 0);
    assert_eq!(spread(1, 1 << 31), 1 << 31);
}
