//! A node and its network: makes tips and templates, and judges blocks.

use std::{collections::BTreeSet, sync::Arc};

use gatewayd::work::{
    BlockLimits, FoundBlock, Hash256, Nbits, Template, TemplateKind, TemplateTx, TipHeader, merkle,
};

use crate::chance::Chance;

/// The chain as one node sees it.
pub struct Node {
    height: u32,
    tip: Hash256,
    tips_made: u32,
    /// The previous tip, for a reorganisation that goes back.
    former: Option<(u32, Hash256)>,
    nbits: Nbits,
    /// How wrong its clock is, in seconds.
    pub clock_off: i64,
    pub was_off: bool,
    transactions: Vec<TemplateTx>,
    fees: u64,
    /// Every block that was submitted to it.
    pub submitted: BTreeSet<[u8; 32]>,
    pub accepted: u64,
}

impl Node {
    /// `hardness`: about one hash in 2^`hardness` is a block.
    pub fn new(hardness: u32) -> Self {
        let nbits = Nbits::new(0x2000_0000 | 0x00FF_FFFF >> (hardness + 1)).unwrap();
        Self {
            height: 1000,
            tip: Hash256::sha256d(b"genesis"),
            tips_made: 0,
            former: None,
            nbits,
            clock_off: 0,
            was_off: false,
            transactions: (1..=5).map(transaction).collect(),
            fees: 3,
            submitted: BTreeSet::new(),
            accepted: 0,
        }
    }

    /// Somebody has found a block, perhaps this gateway.
    pub fn extend(&mut self) {
        let new = (self.height + 1, self.new_hash());
        self.move_to(new);
    }

    /// Another block of the same height, or the block before last, becomes the tip.
    pub fn reorganise(&mut self, chance: &mut Chance) {
        let sibling = (self.height, self.new_hash());
        let back = self.former.filter(|_| chance.one_in(2));
        self.move_to(back.unwrap_or(sibling));
    }

    fn new_hash(&mut self) -> Hash256 {
        self.tips_made += 1;
        Hash256::sha256d(&self.tips_made.to_le_bytes())
    }

    fn move_to(&mut self, (height, tip): (u32, Hash256)) {
        self.former = Some((self.height, self.tip));
        (self.height, self.tip) = (height, tip);
        self.fees = 0;
    }

    /// Test networks switch to easy blocks on the same tip, and back with the next.
    pub fn change_bits(&mut self, hardness: u32) {
        self.nbits = Nbits::new(0x2000_0000 | 0x00FF_FFFF >> (hardness + 1)).unwrap();
    }

    pub fn collect_fees(&mut self, chance: &mut Chance) {
        self.fees += chance.below(3) * 1000;
    }

    fn curtime(&self, unix: u64) -> u32 {
        u32::try_from(i64::try_from(unix).unwrap() + self.clock_off).unwrap()
    }

    /// What a header alone tells.
    pub fn tip_template(&self, unix: u64) -> Arc<Template> {
        let curtime = self.curtime(unix);
        let tip = TipHeader {
            height: self.height + 1,
            version: VERSION,
            prevhash: self.tip,
            nbits: self.nbits,
            curtime,
            mintime: curtime - 600,
            subsidy: SUBSIDY,
        };
        Arc::new(Template::tip("simulated".into(), &tip))
    }

    pub fn full_template(&self, unix: u64, chance: &mut Chance) -> Arc<Template> {
        let count = chance.index(self.transactions.len() + 1);
        let mut transactions = self.transactions[..count].to_vec();
        let fees = if count == 0 { 0 } else { self.fees };
        if let Some(first) = transactions.first_mut() {
            first.fee = fees;
        }
        let total = |of: fn(&TemplateTx) -> u32| transactions.iter().map(of).sum::<u32>();
        let curtime = self.curtime(unix);
        Arc::new(Template {
            source: "simulated".into(),
            kind: TemplateKind::Full,
            height: self.height + 1,
            version: VERSION,
            prevhash: self.tip,
            nbits: self.nbits,
            curtime,
            mintime: curtime - 600,
            coinbase_value: SUBSIDY + fees,
            fees,
            witness_commitment: Some(
                [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[9; 32]].concat().into(),
            ),
            merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
            total_size: total(|tx| u32::try_from(tx.raw.len()).unwrap()),
            total_weight: total(|tx| tx.weight),
            total_sigops: total(|tx| tx.sigops),
            limits: BlockLimits::CONSENSUS,
            transactions: transactions.into(),
        })
    }

    /// Judges a block; true when it becomes the tip.
    pub fn submit(&mut self, block: &FoundBlock) -> bool {
        check_block(block);
        let is_new = self.submitted.insert(block.hash.0);
        let extends = *block.job.prevhash() == self.tip;
        let accepted = is_new && extends && block.job.template.nbits == self.nbits;
        self.accepted += u64::from(accepted);
        accepted
    }
}

/// What must hold for every block submitted to a node.
fn check_block(block: &FoundBlock) {
    let (job, header) = (&block.job, &block.header);
    assert_eq!(Hash256::of_header(header), block.hash);
    assert!(job.template.nbits.target().is_met_by(&block.hash), "no proof of work");
    assert_eq!(&header[4..36], &job.prevhash().0);
    let txid = Hash256::sha256d(&block.coinbase);
    assert_eq!(header[36..68], merkle::root(txid, job.branches()).0, "a different merkle root");
    let coinbase: bitcoin::Transaction =
        bitcoin::consensus::deserialize(&block.coinbase).expect("a coinbase that decodes");
    assert!(coinbase.is_coinbase());
    let height = bitcoin::script::Builder::new().push_int(job.template.height.into());
    assert!(coinbase.input[0].script_sig.as_bytes().starts_with(height.as_bytes()));
    let paid: u64 = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
    let fees = if job.is_empty() { job.template.fees } else { 0 };
    assert_eq!(
        paid + fees,
        job.template.coinbase_value,
        "the coinbase pays everything, and no more"
    );
}

fn transaction(byte: u8) -> TemplateTx {
    let outpoint =
        bitcoin::OutPoint::new(bitcoin::hashes::Hash::from_byte_array([byte; 32]), u32::from(byte));
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: outpoint,
            witness: bitcoin::Witness::from_slice(&[vec![byte; 64]]),
            ..Default::default()
        }],
        output: vec![bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(1000),
            script_pubkey: bitcoin::ScriptBuf::from(vec![0x51; 22]),
        }],
    };
    let hash = |hash: &dyn AsRef<[u8; 32]>| Hash256(*hash.as_ref());
    TemplateTx {
        txid: hash(&transaction.compute_txid()),
        wtxid: hash(&transaction.compute_wtxid()),
        raw: bitcoin::consensus::serialize(&transaction).into(),
        fee: 0,
        weight: u32::try_from(transaction.weight().to_wu()).unwrap(),
        sigops: 0,
    }
}

const VERSION: u32 = 0x2000_0000;
const SUBSIDY: u64 = 312_500_000;
