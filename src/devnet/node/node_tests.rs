//! Blocks built from the node's own templates, as gatewayd builds them, and what the node says of
//! them.

use std::sync::Arc;

use bitcoin::{
    Amount, Block, CompactTarget, ScriptBuf, Transaction, Witness,
    block::Version,
    consensus::{deserialize, serialize},
    hashes::Hash,
};
use bitcoincore_rpc::json::GetBlockTemplateResult;

use super::{check::Refused, gbt, mempool::PoolTx, state::State};
use crate::work::{
    BlockLimits, BuildJob, CoinbaseClass, FoundBlock, Hash256, JobBuilder, Nbits, Payout, Template,
    TemplateKind, TemplateTx, Username, Variant, merkle,
};

const NOW: u32 = 2_000_000_000;

fn state(height: u32, transactions: usize) -> State {
    let mut state = State::new(Nbits::new(0x207f_ffff).unwrap(), 7);
    (0..height).for_each(|at| {
        state.mine_one(NOW - 1000 + at);
    });
    state.grow_mempool(transactions, usize::MAX);
    state
}

/// The template that a gateway would read from the node's JSON.
fn template(state: &State) -> Arc<Template> {
    let json = serde_json::to_string(&gbt::Template::new(&state.ingredients(), NOW)).unwrap();
    let raw: GetBlockTemplateResult = serde_json::from_str(&json).unwrap();
    let transactions: Box<[TemplateTx]> = raw
        .transactions
        .iter()
        .map(|tx| TemplateTx {
            txid: Hash256(tx.txid.to_byte_array()),
            wtxid: Hash256(tx.wtxid.to_byte_array()),
            raw: tx.raw_tx.clone().into(),
            fee: tx.fee.to_sat(),
            weight: tx.weight.try_into().unwrap(),
            sigops: tx.sigops,
        })
        .collect();
    Arc::new(Template {
        source: "devnet".into(),
        kind: TemplateKind::Full,
        height: raw.height.try_into().unwrap(),
        version: raw.version,
        prevhash: Hash256(raw.previous_block_hash.to_byte_array()),
        nbits: Nbits::new(u32::from_be_bytes(raw.bits.try_into().unwrap())).unwrap(),
        curtime: raw.current_time.try_into().unwrap(),
        mintime: raw.min_time.try_into().unwrap(),
        coinbase_value: raw.coinbase_value.to_sat(),
        fees: transactions.iter().map(|tx| tx.fee).sum(),
        witness_commitment: Some(raw.default_witness_commitment.into_bytes().into()),
        merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
        total_size: transactions.iter().map(|tx| u32::try_from(tx.raw.len()).unwrap()).sum(),
        total_weight: transactions.iter().map(|tx| tx.weight).sum(),
        total_sigops: transactions.iter().map(|tx| tx.sigops).sum(),
        limits: BlockLimits::CONSENSUS,
        transactions,
    })
}

fn payout() -> Arc<Payout> {
    Arc::new(Payout {
        script: [0x51].into(),
        tag_primary: b"gatewayd".as_slice().into(),
        tag_secondary: [].into(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    })
}

/// A solved block of `what`, as gatewayd would submit it.
fn found(template: &Arc<Template>, what: BuildJob, class: CoinbaseClass) -> Vec<u8> {
    let job = JobBuilder::new(1).build(what, template, &payout());
    let mut coinbase = Vec::new();
    let variant = Variant { target_byte: 3, quickdiff: false };
    job.coinbase(class).write(variant, &[9; 12], &mut coinbase);
    let root = merkle::root(Hash256::sha256d(&coinbase), job.branches());
    let header = |nonce| job.header(job.version, &root, template.curtime, nonce);
    let meets = |nonce: &u32| job.block_target.is_met_by(&Hash256::sha256d(&header(*nonce)));
    let header = header((0..).find(meets).unwrap());
    let hash = Hash256::sha256d(&header);
    FoundBlock { job, hash, header, coinbase, username: Username("miner".into()) }.serialize()
}

fn good(state: &State) -> Vec<u8> {
    found(&template(state), BuildJob::Classes, CoinbaseClass::Huge)
}

/// `block` with a correct merkle root and new work.
fn solved(mut block: Block) -> Vec<u8> {
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    rehashed(block)
}

fn rehashed(mut block: Block) -> Vec<u8> {
    let target = block.header.target();
    while !target.is_met_by(block.header.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    serialize(&block)
}

fn submit(state: &mut State, block: &[u8]) -> Result<(), Refused> {
    state.submit(block, NOW, None).unwrap()
}

/// A good block, broken by `spoil` and solved anew, is rejected for `reason`.
#[track_caller]
fn refused(reason: &str, spoil: impl FnOnce(&mut Block)) {
    let mut state = state(20, 12);
    let mut block: Block = deserialize(&good(&state)).unwrap();
    spoil(&mut block);
    let verdict = submit(&mut state, &solved(block));
    assert_eq!(verdict.map_err(|refused| refused.to_string()), Err(reason.to_owned()));
    assert_eq!(state.seen().height, 20);
    assert_eq!(state.rejected().get(reason), Some(&1));
}

/// Updates the witness commitment.
fn commit(block: &mut Block) {
    let root = block.witness_root().unwrap();
    let hash = Block::compute_witness_commitment(&root, &[0; 32]);
    let mark = block.txdata[0].output.iter_mut().rfind(|output| output.value == Amount::ZERO);
    let script = [&[0x6A, 0x24, 0xAA, 0x21, 0xA9, 0xED], &hash.to_byte_array()[..]].concat();
    mark.unwrap().script_pubkey = ScriptBuf::from_bytes(script);
}

fn script_sig(block: &mut Block, script: Vec<u8>) {
    block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(script);
}

#[test]
fn blocks_of_every_class_and_height_are_taken() {
    let mut state = state(0, 5);
    for height in 1..=155 {
        let class = CoinbaseClass::CLASSES[height as usize % 6];
        let template = template(&state);
        assert_eq!(template.transactions.len(), if height == 1 { 5 } else { 3 });
        let what = if height % 7 == 0 { BuildJob::SubsidyOnly } else { BuildJob::Classes };
        let block = found(&template, what, class);
        assert_eq!(state.propose(&block, NOW), Ok(Ok(())));
        assert_eq!(submit(&mut state, &block), Ok(()), "{height}");
        assert_eq!(submit(&mut state, &block), Err(Refused::Duplicate));
        assert_eq!(state.seen().height, height);
        let waiting = if what == BuildJob::SubsidyOnly { template.transactions.len() } else { 0 };
        state.grow_mempool(3 - waiting, usize::MAX);
    }
    let last = state.blocks().pop().unwrap();
    assert_eq!((last.height, last.transactions), (155, 4));
    assert!(last.coinbase_outputs[0].0 > 2_500_000_000, "the first halving, and fees");
}

#[test]
fn headers_are_checked() {
    refused("bad-diffbits", |block| {
        block.header.bits = CompactTarget::from_consensus(0x207f_fffe);
    });
    refused("time-too-old", |block| block.header.time = NOW - 1000 + 14);
    refused("time-too-new", |block| block.header.time = NOW + 7201);
    refused("bad-version(0x00000003)", |block| block.header.version = Version::from_consensus(3));
}

#[test]
fn times_at_the_limits_are_valid() {
    for time in [NOW - 1000 + 15, NOW + 7200] {
        let mut state = state(20, 3);
        let mut block: Block = deserialize(&good(&state)).unwrap();
        block.header.time = time;
        assert_eq!(submit(&mut state, &solved(block)), Ok(()), "{time}");
    }
}

#[test]
fn work_is_checked() {
    let mut state = state(3, 2);
    let mut block: Block = deserialize(&good(&state)).unwrap();
    let target = block.header.target();
    while target.is_met_by(block.header.block_hash()) {
        block.header.nonce += 1;
    }
    assert_eq!(submit(&mut state, &serialize(&block)), Err(Refused::HighHash));
    assert_eq!(state.propose(&serialize(&block), NOW), Ok(Ok(())), "a proposal needs no work");
}

#[test]
fn merkle_roots_are_checked() {
    let mut state = state(3, 2);
    let mut block: Block = deserialize(&good(&state)).unwrap();
    block.txdata.swap(1, 2);
    assert_eq!(submit(&mut state, &rehashed(block)), Err(Refused::BadTxnmrklroot));
    // Three transactions hash as four, the last one twice.
    let mut block: Block = deserialize(&good(&state)).unwrap();
    block.txdata.push(block.txdata[2].clone());
    assert_eq!(submit(&mut state, &rehashed(block)), Err(Refused::BadTxnsDuplicate));
}

#[test]
fn coinbases_are_checked() {
    refused("bad-cb-missing", |block| drop(block.txdata.remove(0)));
    refused("bad-cb-multiple", |block| {
        let mut second = block.txdata[0].clone();
        second.output[0].value = Amount::from_sat(1);
        block.txdata.push(second);
    });
    refused("bad-cb-length", |block| script_sig(block, [1, 21, 0].repeat(34)));
    refused("bad-cb-length", |block| script_sig(block, vec![0x51]));
    refused("bad-cb-height", |block| script_sig(block, vec![1, 22, 0, 0]));
    refused("bad-cb-height", |block| script_sig(block, vec![2, 21, 0, 0]));
    refused("bad-cb-amount", |block| block.txdata[0].output[0].value += Amount::from_sat(1));
    refused("bad-cb-amount", |block| {
        // The fees of a transaction that is left out.
        let last = block.txdata.len() - 1;
        block.txdata.remove(last);
        commit(block);
    });
}

#[test]
fn low_heights_are_opcodes() {
    let mut state = state(15, 0);
    let mut block: Block = deserialize(&good(&state)).unwrap();
    script_sig(&mut block, vec![1, 16, 0, 0]);
    assert_eq!(submit(&mut state, &solved(block.clone())), Err(Refused::BadCbHeight));
    script_sig(&mut block, vec![0x60, 0]);
    assert_eq!(submit(&mut state, &solved(block)), Ok(()));
}

#[test]
fn witnesses_are_checked() {
    let coinbase_witness = |block: &mut Block, items: &[&[u8]]| {
        block.txdata[0].input[0].witness = Witness::from_slice(items);
    };
    refused("bad-witness-nonce-size", |block| coinbase_witness(block, &[]));
    refused("bad-witness-nonce-size", |block| coinbase_witness(block, &[&[0; 31]]));
    refused("bad-witness-merkle-match", |block| coinbase_witness(block, &[&[1; 32]]));
    refused("bad-witness-merkle-match", |block| {
        block.txdata[2].input[0].witness = Witness::from_slice(&[[1]]);
    });
    refused("unexpected-witness", |block| {
        block.txdata[0].output.retain(|output| output.value > Amount::ZERO);
    });
}

#[test]
fn only_known_transactions_are_taken() {
    refused("bad-txns-inputs-missingorspent", |block| {
        block.txdata[3].output[0].value += Amount::from_sat(1);
        commit(block);
    });
    // The right txid with another witness.
    refused("bad-txns-inputs-missingorspent", |block| {
        block.txdata[3].input[0].witness = Witness::from_slice(&[[1]]);
        commit(block);
    });
    let known = state(20, 12).ingredients().transactions;
    let child = known.iter().position(|tx| tx.parent.is_some()).unwrap();
    refused("bad-txns-inputs-missingorspent", |block| {
        block.txdata.swap(child, child + 1); // One off: the coinbase is in front.
        commit(block);
    });
}

#[test]
fn weight_is_checked() {
    let mut state = state(20, 0);
    let mut block: Block = deserialize(&good(&state)).unwrap();
    let mut data = block.txdata[0].output[0].clone();
    (data.value, data.script_pubkey) = (Amount::ZERO, ScriptBuf::from_bytes(vec![0x6A; 1_000_000]));
    block.txdata[0].output.insert(0, data);
    assert_eq!(submit(&mut state, &solved(block)), Err(Refused::BadBlkWeight));
}

#[test]
fn blocks_off_the_tip_are_inconclusive() {
    let mut state = state(20, 5);
    let late = good(&state);
    state.mine_one(NOW);
    assert_eq!(state.propose(&late, NOW), Ok(Err(Refused::NotBestPrevblk)));
    assert_eq!(submit(&mut state, &late), Err(Refused::Inconclusive));
    assert_eq!(submit(&mut state, &late), Err(Refused::DuplicateInconclusive));
    let mut unknown: Block = deserialize(&late).unwrap();
    unknown.header.prev_blockhash = bitcoin::BlockHash::from_byte_array([5; 32]);
    let unknown = solved(unknown);
    assert_eq!(submit(&mut state, &unknown), Err(Refused::Inconclusive));
    assert_eq!(submit(&mut state, &unknown), Err(Refused::Inconclusive));
}

#[test]
fn bytes_that_are_no_block_are_undecodable() {
    let mut state = state(1, 1);
    let good = good(&state);
    for bytes in [&[][..], &good[..100], &[&good[..], &[0]].concat()] {
        assert!(state.submit(bytes, NOW, None).is_err());
    }
    assert_eq!(state.rejected().values().sum::<u64>(), 3);
}

#[test]
fn a_forgotten_tip_gives_its_transactions_back() {
    let mut state = state(20, 5);
    let ids = |txs: &[Arc<PoolTx>]| txs.iter().map(|tx| tx.txid).collect::<Vec<_>>();
    let before = ids(&state.ingredients().transactions);
    let block = good(&state);
    assert_eq!(submit(&mut state, &block), Ok(()));
    assert!(state.forget_tip());
    assert_eq!((state.seen().height, ids(&state.ingredients().transactions)), (20, before));
    assert_eq!(submit(&mut state, &block), Err(Refused::DuplicateInvalid));
    state.mine_one(NOW);
    assert_eq!(state.seen().height, 21);
}

#[test]
fn the_nodes_own_blocks_are_valid_except_for_their_work() {
    let mut state = state(160, 30);
    state.mine_one(NOW);
    let last = state.blocks().pop().unwrap();
    assert_eq!((last.height, last.transactions, last.submitted_by), (161, 31, None));
    let coinbase: Transaction = state.chain().body(161).unwrap().coinbase.clone();
    assert!(coinbase.is_coinbase() && coinbase.output.len() == 2);
}

#[test]
fn templates_name_the_parents_of_transactions() {
    let state = state(1, 200);
    let json = serde_json::to_string(&gbt::Template::new(&state.ingredients(), NOW)).unwrap();
    let raw: GetBlockTemplateResult = serde_json::from_str(&json).unwrap();
    let mut chained = 0;
    for (at, tx) in raw.transactions.iter().enumerate() {
        for parent in &tx.depends {
            let parent = usize::try_from(*parent).unwrap() - 1;
            assert!(parent < at);
            let tx: Transaction = deserialize(&tx.raw_tx).unwrap();
            assert_eq!(tx.input[0].previous_output.txid, raw.transactions[parent].txid);
            chained += 1;
        }
    }
    assert!(chained > 10);
}
