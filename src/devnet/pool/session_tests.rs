#![expect(clippy::cast_possible_truncation, reason = "test templates are small")]

use std::collections::BTreeMap;

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
    consensus::serialize, hashes::Hash, transaction,
};
use rand::RngCore;

use super::*;
use crate::{
    datum::{
        Handshake, Link, PublicIdentity, ShortIds, check_coinbaser, crosscheck,
        message::{
            CoinbaseContext, JobContext, ShareFlags, ShareMessage, ShareReason, ShareResponse,
            ShareStatus, ToGateway, ToPool, Validation, ValidationError, Wanted,
        },
    },
    devnet::pool::{PoolConfig, Probe, ValidationPlan, ledger::STALE_GRACE, test_now},
    work::{
        BlockLimits, BuildJob, Coinbase, CoinbaseClass, Coinbaser, CoinbaserRequest, Hash256, Job,
        JobBuilder, Nbits, Payout, PoolTerms, Template, TemplateKind, TemplateTx, Variant, VoidNow,
        merkle,
    },
};

#[path = "habits_tests.rs"]
mod habits;

/// A pool's session and a gateway to talk to it.
struct Rig {
    pool: Arc<Identity>,
    session: PoolSession,
    control: Control,
    ledger: Ledger,
    now: PoolTime,
    long_term: Identity,
    gateway: Option<(Handshake, Link)>,
    signer: Option<PublicIdentity>,
    /// As in the latest configuration.
    prime_id: u32,
    rng: StdRng,
    jobs: JobBuilder,
    next_nonce: u32,
}

/// What a gateway heard, summarised.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Configuration { min_difficulty: u64, tag: Vec<u8>, signed: bool },
    Coinbaser(Vec<u8>),
    Response(ShareResponse),
    NewBlock,
    Validate(u8, Wanted, Vec<u16>),
    Info,
    Ping,
}

impl Rig {
    fn new(config: PoolConfig) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let pool = Arc::new(Identity::generate(&mut rng));
        let control = Control::new(config);
        let now = PoolTime { instant: test_now(), unix: 1_700_000_000 };
        Self {
            session: PoolSession::new(Arc::clone(&pool), 1, now, &control),
            pool,
            control,
            ledger: Ledger::default(),
            now,
            long_term: Identity::generate(&mut rng),
            gateway: None,
            signer: None,
            prime_id: 0,
            rng,
            jobs: JobBuilder::new(1),
            next_nonce: 0,
        }
    }

    /// A rig whose gateway has its configuration.
    fn open(config: PoolConfig) -> Self {
        let mut rig = Self::new(config);
        rig.hello();
        rig
    }

    fn hello(&mut self) -> Vec<Heard> {
        self.session =
            PoolSession::new(Arc::clone(&self.pool), self.rng.next_u64(), self.now, &self.control);
        let reply = self.say_hello();
        self.hear_response(&reply).unwrap()
    }

    fn say_hello(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let pool = *self.pool.public();
        let started =
            Handshake::start(&self.long_term, pool, "rig/1", &mut self.rng, &mut out).unwrap();
        self.gateway = Some(started);
        let mut reply = Vec::new();
        self.feed(&out, &mut reply).unwrap();
        reply
    }

    fn feed(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<(), PoolClose> {
        let Self { session, now, control, ledger, .. } = self;
        session.on_bytes(bytes, *now, control, ledger, reply)
    }

    fn hear_response(&mut self, reply: &[u8]) -> Result<Vec<Heard>, String> {
        let (handshake, link) = self.gateway.as_mut().unwrap();
        link.push(reply);
        let frame = link.next(handshake.session()).map_err(|e| e.to_string())?.ok_or("silence")?;
        let welcome = handshake.finish(&frame, link).map_err(|e| e.to_string())?;
        self.signer = Some(welcome.pool_session);
        self.hear(&[])
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, String> {
        let (handshake, link) = self.gateway.as_mut().unwrap();
        link.push(bytes);
        let mut heard = Vec::new();
        while let Some(frame) = link.next(handshake.session()).map_err(|e| e.to_string())? {
            let signer = self.signer.as_ref().unwrap();
            let plain = frame.verified(signer).map_err(|e| e.to_string())?;
            if let Ok(ToGateway::Configuration(configuration)) = ToGateway::decode(plain) {
                self.prime_id = configuration.prime_id;
            }
            heard.push(match frame.header.command {
                command::INFO => Heard::Info,
                command::PING => Heard::Ping,
                _ => match ToGateway::decode(plain).map_err(|e| e.to_string())? {
                    ToGateway::Configuration(configuration) => Heard::Configuration {
                        min_difficulty: configuration.min_difficulty,
                        tag: configuration.tag.to_vec(),
                        signed: frame.header.signed,
                    },
                    ToGateway::Coinbaser(_) => Heard::Coinbaser(plain.to_vec()),
                    ToGateway::ShareResponse(response) => Heard::Response(response),
                    ToGateway::NewBlock => Heard::NewBlock,
                    ToGateway::Validate { slot, wanted, indexes } => {
                        Heard::Validate(slot, wanted, indexes)
                    }
                },
            });
        }
        Ok(heard)
    }

    /// Says something, and hears what comes back.
    fn say(&mut self, message: &ToPool<'_>) -> Vec<Heard> {
        let reply = self.send(message).unwrap();
        self.hear(&reply).unwrap()
    }

    fn send(&mut self, message: &ToPool<'_>) -> Result<Vec<u8>, PoolClose> {
        let mut wire = Vec::new();
        let (_, link) = self.gateway.as_mut().unwrap();
        link.write_channel(None, &mut wire, |out| message.encode(out)).unwrap();
        let mut reply = Vec::new();
        self.feed(&wire, &mut reply).map(|()| reply)
    }

    fn control(&mut self) -> Result<Vec<Heard>, PoolClose> {
        let mut out = Vec::new();
        self.session.on_control(self.now, &self.control, &mut out)?;
        Ok(self.hear(&out).unwrap())
    }

    fn fetch(&mut self, request: CoinbaserRequest) -> Coinbaser {
        let heard = self.say(&ToPool::FetchCoinbaser { request, padding: &[1; 9] });
        let [Heard::Coinbaser(plain)] = heard.as_slice() else { panic!("{heard:?}") };
        let Ok(ToGateway::Coinbaser(message)) = ToGateway::decode(plain) else { panic!() };
        let checked = check_coinbaser(&message, request).unwrap();
        assert_eq!(checked.cut_at, None);
        checked.coinbaser
    }

    /// A job as a gateway makes it, with the pool's own split.
    fn job(&mut self, what: BuildJob, template: &Arc<Template>) -> Arc<Job> {
        let value = template.coinbase_value;
        let coinbaser = self.fetch(CoinbaserRequest { prevhash: template.prevhash, value });
        let config = Arc::clone(&self.control.config);
        let payout = Payout {
            script: config.script.as_slice().into(),
            tag_primary: config.tag.as_slice().into(),
            tag_secondary: b"rig".as_slice().into(),
            unique_id: 4242,
            own_script: None,
            pooled: Some(PoolTerms {
                pool: "pool".into(),
                prime_id: config.prime_id,
                min_difficulty: config.min_difficulty,
                coinbaser: Some(Arc::new(coinbaser)),
                settled: None,
                epoch: 1,
                series: 1,
                void_series: 0,
                void_now: VoidNow::default(),
            }),
        };
        self.jobs.build(what, template, &Arc::new(payout))
    }

    fn answer(&mut self, share: ShareMessage<'_>) -> Result<(), ShareReason> {
        let heard = self.say(&ToPool::Share(share));
        let Some(Heard::Response(response)) = heard.first() else { panic!("{heard:?}") };
        match response.status {
            ShareStatus::Rejected => Err(response.reason),
            _ => Ok(()),
        }
    }

    /// A share that meets the (tiny) block target, with both contexts.
    fn mine<'a>(&mut self, job: &'a Job, coinbase: &'a Coinbase) -> ShareMessage<'a> {
        let extranonce = b"extranonce12";
        let mut bytes = Vec::new();
        coinbase.write(Variant { target_byte: 0, quickdiff: false }, extranonce, &mut bytes);
        let root = merkle::root(Hash256::sha256d(&bytes), job.branches());
        let ntime = job.template.curtime;
        let solves = |nonce: &u32| {
            let header = job.header(job.version, &root, ntime, *nonce);
            job.block_target.is_met_by(&Hash256::sha256d(&header))
        };
        let nonce = (self.next_nonce..).find(solves).unwrap();
        self.next_nonce = nonce + 1;
        ShareMessage {
            slot: 0,
            coinbase_id: coinbase.id.wire(),
            flags: ShareFlags::new(true, job.is_empty(), false),
            target_byte: 0,
            ntime,
            nonce,
            version: job.version,
            extranonce,
            username: b"somebody.rig",
            reserved: [0; 4],
            job: Some(context(job, coinbase)),
            coinbase: Some(CoinbaseContext {
                coinbase_id: coinbase.id.wire(),
                coinb1: &coinbase.coinb1,
                coinb2: &coinbase.coinb2,
            }),
            padding: &[3; 20],
        }
    }
}

fn context(job: &Job, coinbase: &Coinbase) -> JobContext<'static> {
    let template = &job.template;
    let coinbaser = job.payout.pooled.as_ref().unwrap().coinbaser.as_ref().unwrap();
    JobContext {
        prevhash: template.prevhash,
        target_byte_index: coinbase.target_byte_index as u16,
        nbits: template.nbits.get(),
        coinbaser_id: coinbaser.id,
        height: template.height,
        coinbase_value: template.coinbase_value,
        tx_count: template.transactions.len() as u32,
        total_weight: template.total_weight,
        total_size: template.total_size,
        total_sigops: 0,
        branches: template.merkle_branches.to_vec().into(),
    }
}

fn transaction(n: u32) -> TemplateTx {
    let previous_output = OutPoint { txid: Txid::from_byte_array([n as u8 + 1; 32]), vout: n };
    let witness = Witness::from_slice(&[[n as u8; 70].as_slice(), &[2; 33]]);
    let script_sig = ScriptBuf::new();
    let input = TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness };
    let script_pubkey = ScriptBuf::from_bytes(vec![0x51]);
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey };
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    TemplateTx {
        txid: Hash256(transaction.compute_txid().to_byte_array()),
        wtxid: Hash256(transaction.compute_wtxid().to_byte_array()),
        raw: serialize(&transaction).into(),
        fee: 100,
        weight: 400,
        sigops: 0,
    }
}

fn template(prevhash: u8, height: u32, transactions: u32) -> Arc<Template> {
    let transactions: Box<[_]> = (0..transactions).map(transaction).collect();
    let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[9; 32]].concat();
    let fees = 100 * transactions.len() as u64;
    Arc::new(Template {
        source: "rig".into(),
        kind: TemplateKind::Full,
        height,
        version: 0x2000_0000,
        prevhash: Hash256([prevhash; 32]),
        nbits: Nbits::new(0x207f_ffff).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        coinbase_value: 2_500_000_000 + fees,
        fees,
        witness_commitment: Some(commitment.into()),
        merkle_branches: merkle::branches(transactions.iter().map(|tx| tx.txid)),
        total_size: transactions.iter().map(|tx| tx.raw.len() as u32).sum(),
        total_weight: transactions.iter().map(|tx| tx.weight).sum(),
        total_sigops: 0,
        transactions,
        limits: BlockLimits::CONSENSUS,
    })
}

/// No validations, no keep-alives: only what a test asks for.
fn quiet() -> PoolConfig {
    let validation = ValidationPlan { every: 0, ..ValidationPlan::default() };
    PoolConfig { validation, keepalive: Duration::ZERO, ..PoolConfig::default() }
}

#[test]
fn a_gateway_is_welcomed_and_configured() {
    let mut rig = Rig::new(PoolConfig { min_difficulty: 4, ..quiet() });
    let tag = rig.control.config.tag.clone();
    let configuration = Heard::Configuration { min_difficulty: 4, tag, signed: true };
    assert_eq!(rig.hello(), [configuration]);
    // Again, when the terms change.
    let changed = PoolConfig { min_difficulty: 8, tag: b"other".to_vec(), ..quiet() };
    rig.control.config = changed.into();
    let tag = b"other".to_vec();
    let configuration = Heard::Configuration { min_difficulty: 8, tag, signed: true };
    assert_eq!(rig.control().unwrap(), [configuration]);
    assert_eq!(rig.control().unwrap(), []);
}

#[test]
fn every_coinbaser_is_valid_and_has_an_id_of_its_own() {
    let mut rig = Rig::open(quiet());
    let mut ids = Vec::new();
    for value in [0, 1, 5_000_000_000, u64::MAX] {
        let coinbaser = rig.fetch(CoinbaserRequest { prevhash: Hash256::ZERO, value });
        assert_eq!(coinbaser.outputs.is_empty(), value < 2);
        ids.push(coinbaser.id);
    }
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn shares_on_every_coinbase_are_accepted_once() {
    let mut rig = Rig::open(quiet());
    let template = template(1, 200, 5);
    let full = rig.job(BuildJob::Classes, &template);
    let empty = rig.job(BuildJob::SubsidyOnly, &template);
    let blank = rig.job(BuildJob::Blank, &template);
    for job in [&full, &empty, &blank] {
        for coinbase in job.coinbases() {
            let share = rig.mine(job, coinbase);
            assert_eq!(rig.answer(share.clone()), Ok(()), "class {:?}", coinbase.id);
            assert_eq!(rig.answer(share), Err(ShareReason::DUPLICATE));
        }
    }
    let stats = rig.ledger.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.blocks), (8, 8, 16));
    assert_eq!(stats.accepted_by_user, BTreeMap::from([("somebody.rig".to_owned(), 8)]));
    assert_eq!(stats.rejected_by, BTreeMap::from([(ShareReason::DUPLICATE, 8)]));
    assert_eq!((stats.splits_max, stats.blocks_misflagged), (20, 0));
    assert_eq!(stats.accepted_by_class[&0xFF], 1);
}

#[test]
fn quickdiff_work_and_shares_without_contexts_are_accepted() {
    let mut rig = Rig::open(quiet());
    let job = rig.job(BuildJob::Classes, &template(1, 200, 5));
    let coinbase = job.coinbase(CoinbaseClass::Huge);
    let share = rig.mine(&job, coinbase);
    assert_eq!(rig.answer(share), Ok(()));
    let share = ShareMessage { job: None, coinbase: None, ..rig.mine(&job, coinbase) };
    assert_eq!(rig.answer(share.clone()), Ok(()));
    // The other coinbase gives another hash: not a duplicate, and perhaps not a block.
    let share = ShareMessage { flags: ShareFlags(ShareFlags::QUICKDIFF), ..share };
    assert_eq!(rig.answer(share.clone()), Ok(()));
    // On a new connection nothing is known, and everything is still counted.
    rig.hello();
    assert_eq!(rig.answer(share), Err(ShareReason::BAD_JOB_ID));
    let share = ShareMessage { coinbase: None, ..rig.mine(&job, coinbase) };
    assert_eq!(rig.answer(share), Err(ShareReason::COINBASE_MISSING));
    assert_eq!(rig.ledger.stats().accepted, 3);
}

#[test]
fn each_wrong_share_is_rejected_for_its_own_reason() {
    let template = template(1, 200, 5);
    let case = |reason: ShareReason, spoil: fn(&mut ShareMessage<'_>)| {
        let mut rig = Rig::open(quiet());
        let job = rig.job(BuildJob::Classes, &template);
        let mut share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
        spoil(&mut share);
        assert_eq!(rig.answer(share), Err(reason), "{}", reason.name());
    };
    case(ShareReason::BAD_JOB_ID, |share| share.slot = 8);
    case(ShareReason::BAD_JOB_ID, |share| share.job = None);
    case(ShareReason::COINBASE_MISSING, |share| share.coinbase = None);
    case(ShareReason::BAD_COINBASE_ID, |share| share.coinbase_id = 6);
    case(ShareReason::COINBASE_ID_MISMATCH, |share| share.coinbase_id = 3);
    case(ShareReason::COINBASE_ID_MISMATCH, |share| share.flags = ShareFlags(2));
    case(ShareReason::BAD_EXTRANONCE, |share| share.extranonce = b"short");
    case(ShareReason::BAD_USERNAME, |share| share.username = b"");
    case(ShareReason::BAD_USERNAME, |share| share.username = b"a\nb");
    case(ShareReason::BAD_NTIME, |share| share.ntime += 3 * 3600);
    case(ShareReason::BAD_NTIME, |share| share.ntime -= 3 * 3600);
    case(ShareReason::BAD_VERSION, |share| share.version = 4);
    case(ShareReason::BAD_TARGET, |share| share.target_byte = 64);
    case(ShareReason::HASH_NOT_ZERO, |share| {
        share.target_byte = 20;
        share.flags = ShareFlags(0);
    });
    case(ShareReason::BAD_TARGET, |share| share.job.as_mut().unwrap().nbits = 0);
    case(ShareReason::BAD_COINBASER_ID, |share| share.job.as_mut().unwrap().coinbaser_id = 9);
    case(ShareReason::BAD_OUTPUTS, |share| share.job.as_mut().unwrap().coinbaser_id = 0);
    case(ShareReason::BAD_MERKLE_COUNT, |share| share.job.as_mut().unwrap().tx_count = 100);
    case(ShareReason::BAD_COINBASE, |share| share.job.as_mut().unwrap().height += 1);
    case(ShareReason::BAD_COINBASE, |share| share.job.as_mut().unwrap().coinbase_value -= 1);
    case(ShareReason::BAD_OUTPUTS, |share| share.job.as_mut().unwrap().coinbase_value += 1);
    case(ShareReason::TARGET_MISMATCH, |share| share.job.as_mut().unwrap().target_byte_index = 9);
    case(ShareReason::TARGET_MISMATCH, |share| {
        share.job.as_mut().unwrap().target_byte_index = 65535;
    });
    case(ShareReason::COINBASE_TOO_LARGE, |share| {
        share.coinbase.as_mut().unwrap().coinb2 = &[0; 20_000];
    });
    case(ShareReason::BAD_COINBASE, |share| share.coinbase.as_mut().unwrap().coinb2 = &[0; 8]);
}

#[test]
fn the_pool_insists_on_its_tag_prime_id_script_and_order() {
    let template = template(1, 200, 0);
    let case = |reason: ShareReason, spoil: fn(&mut PoolConfig)| {
        let mut rig = Rig::open(quiet());
        let right = Arc::clone(&rig.control.config);
        let mut wrong = PoolConfig::clone(&right);
        spoil(&mut wrong);
        // What the gateway goes by; the session keeps its own.
        rig.control.config = wrong.into();
        let job = rig.job(BuildJob::Classes, &template);
        rig.control.config = right;
        let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
        assert_eq!(rig.answer(share), Err(reason));
    };
    case(ShareReason::MISSING_TAG, |config| config.tag = b"another".to_vec());
    case(ShareReason::MISSING_TAG, |config| config.tag.truncate(3));
    case(ShareReason::MISSING_TAG, |config| config.prime_id ^= 1);
    case(ShareReason::BAD_OUTPUTS, |config| config.script = vec![0x51]);
}

#[test]
fn splits_in_another_order_are_rejected() {
    let mut rig = Rig::open(quiet());
    let job = rig.job(BuildJob::Classes, &template(1, 200, 0));
    let mut payout = Payout::clone(&job.payout);
    let terms = payout.pooled.as_mut().unwrap();
    let mut coinbaser = Coinbaser::clone(terms.coinbaser.as_ref().unwrap());
    coinbaser.outputs.swap(2, 3);
    terms.coinbaser = Some(coinbaser.into());
    let job = rig.jobs.build(BuildJob::Classes, &job.template, &Arc::new(payout));
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Err(ShareReason::BAD_OUTPUTS));
}

#[test]
fn a_minimum_difficulty_is_demanded_after_a_grace_period() {
    let mut rig = Rig::open(quiet());
    let template = template(1, 200, 0);
    let job = rig.job(BuildJob::Classes, &template);
    rig.control.config = PoolConfig { min_difficulty: 3, ..quiet() }.into();
    rig.control().unwrap();
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Ok(()));
    rig.now.instant += Duration::from_secs(31);
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Err(ShareReason::BAD_TARGET));
}

#[test]
fn a_floor_is_demanded_of_target_byte_zero() {
    let share_floor = crate::work::Difficulty::new(0.01);
    let mut rig = Rig::open(PoolConfig { share_floor, ..quiet() });
    let job = rig.job(BuildJob::Classes, &template(1, 200, 0));
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Err(ShareReason::HIGH_HASH));
}

#[test]
fn work_on_an_old_tip_is_stale_after_ten_seconds() {
    let mut rig = Rig::open(quiet());
    let old = rig.job(BuildJob::Classes, &template(1, 200, 0));
    let new = rig.job(BuildJob::Classes, &template(2, 201, 0));
    for (age, verdict) in [(STALE_GRACE, Ok(())), (STALE_GRACE * 2, Err(ShareReason::STALE_BLOCK))]
    {
        rig.now.instant += age;
        let share = rig.mine(&old, old.coinbase(CoinbaseClass::Tiny));
        assert_eq!(rig.answer(share), verdict);
        let share = rig.mine(&new, new.coinbase(CoinbaseClass::Tiny));
        assert_eq!(rig.answer(share), Ok(()));
    }
    // A block counts, stale or not.
    assert_eq!(rig.ledger.stats().blocks, 4);
}

/// What a gateway answers to `question` about `template`.
fn answer_to(question: &Heard, template: &Template, ids: &ShortIds) -> (u8, Vec<u8>) {
    let Heard::Validate(slot, wanted, indexes) = question else { panic!("{question:?}") };
    let all: Vec<&[u8]> = template.transactions.iter().map(|tx| &*tx.raw).collect();
    let wtxids = || template.transactions.iter().map(|tx| &tx.wtxid);
    let answer = match wanted {
        Wanted::ShortIds => Validation::ShortIds {
            ids: wtxids().map(|wtxid| ids.of(wtxid)).collect(),
            crosscheck: (!all.is_empty()).then(|| crosscheck(wtxids())),
        },
        Wanted::Transactions => {
            Validation::Transactions(indexes.iter().map(|at| all[usize::from(*at)]).collect())
        }
        Wanted::Block => Validation::Block(all),
    };
    let mut plain = Vec::new();
    ToPool::Validation { slot: *slot, answer, padding: &[] }.encode(&mut plain);
    (*slot, plain)
}

/// Mines a share of `told` and answers the pool's questions about `shown`.
fn validate(told: &Arc<Template>, shown: &Template) -> Rig {
    let mut rig = Rig::open(PoolConfig { validation: ValidationPlan::default(), ..quiet() });
    let ids = ShortIds::new(rig.long_term.public(), rig.pool.public());
    let job = rig.job(BuildJob::Classes, told);
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    let mut heard = rig.say(&ToPool::Share(share));
    assert!(matches!(heard[0], Heard::Response(_)));
    heard.remove(0);
    while let Some(question) = heard.pop() {
        assert_eq!(heard, []);
        let (_, plain) = answer_to(&question, shown, &ids);
        heard = rig.say(&ToPool::decode(&plain).unwrap());
    }
    rig
}

#[test]
fn templates_are_validated_in_all_three_forms() {
    for transactions in [0, 1, 2, 3, 9] {
        let template = template(1, 200, transactions);
        let rig = validate(&template, &template);
        let stats = rig.ledger.stats();
        let forms = if transactions == 0 { [1, 0, 1] } else { [1, 1, 1] };
        assert_eq!(stats.validations_by_form, forms, "{:?}", stats.last_validation_failure);
        assert_eq!((stats.validations_failed, stats.validations_refused), (0, 0));
    }
}

#[test]
fn a_template_other_than_the_shares_is_detected() {
    let told = template(1, 200, 4);
    let case = |flaw: &str, spoil: fn(&mut Vec<TemplateTx>)| {
        let mut shown = template(1, 200, 4);
        let mut transactions = shown.transactions.to_vec();
        spoil(&mut transactions);
        Arc::get_mut(&mut shown).unwrap().transactions = transactions.into();
        let rig = validate(&told, &shown);
        let failure = rig.ledger.stats().last_validation_failure.clone();
        assert_eq!(failure.as_deref(), Some(flaw));
        assert_eq!(rig.ledger.stats().validations_failed, 1);
    };
    case("slot 0: 3 transactions, where the job has 4", |all| {
        all.pop();
    });
    case("slot 0: the transactions are not those of the merkle branches", |all| all.swap(1, 2));
    case("slot 0: transaction 0 is not the one that its short id stands for", |all| {
        all[0].wtxid = Hash256::ZERO;
    });
    case("slot 0: transaction 3 does not decode", |all| all[3].raw = vec![1, 2].into());
}

#[test]
fn errors_and_unsolicited_answers_are_counted() {
    let mut rig = Rig::open(quiet());
    rig.control.probe = Some((1, Probe { slot: 200, wanted: Wanted::ShortIds, indexes: vec![] }));
    assert_eq!(rig.control().unwrap(), [Heard::Validate(200, Wanted::ShortIds, vec![])]);
    let (wanted, error) = (Wanted::ShortIds, ValidationError::OutOfRange);
    let answer = Validation::Error { wanted, error };
    rig.say(&ToPool::Validation { slot: 0xFF, answer, padding: &[8; 6] });
    let answer = Validation::Block(vec![]);
    rig.say(&ToPool::Validation { slot: 0, answer, padding: &[] });
    let stats = rig.ledger.stats();
    assert_eq!((stats.validations_refused, stats.validations_unasked), (1, 1));
}

#[test]
fn faults_show_in_the_handshake() {
    let case = |fault: Fault, complaint: &str| {
        let mut rig = Rig::new(quiet());
        rig.control.fault = Some(fault);
        let reply = rig.say_hello();
        let heard = rig.hear_response(&reply).unwrap_err();
        assert!(heard.contains(complaint), "{fault:?}: {heard}");
    };
    case(Fault::BadResponseSignature, "signature");
    case(Fault::WrongEcho, "echoes keys other than ours");
    case(Fault::BadMac, "authentication code");
    case(Fault::TruncatedConfiguration, "prime id");
    case(Fault::Silence, "silence");
    let mut rig = Rig::new(quiet());
    rig.control.fault = Some(Fault::UnsignedConfiguration);
    let heard = rig.hello();
    assert!(matches!(heard[..], [Heard::Configuration { signed: false, .. }]));
}

#[test]
fn faults_show_in_coinbasers() {
    use crate::datum::CoinbaserFault as Found;
    let mut rig = Rig::open(quiet());
    let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: 1000 };
    let mut fault = |fault| {
        rig.control.fault = Some(fault);
        let heard = rig.say(&ToPool::FetchCoinbaser { request, padding: &[1] });
        let [Heard::Coinbaser(plain)] = heard.as_slice() else { return None };
        let Ok(ToGateway::Coinbaser(message)) = ToGateway::decode(plain) else { panic!() };
        check_coinbaser(&message, request).err()
    };
    assert_eq!(fault(Fault::SilentCoinbaser), None);
    assert_eq!(fault(Fault::OverpayingCoinbaser), Some(Found::Overpays { value: 1000 }));
    assert_eq!(fault(Fault::ImpossibleScripts), Some(Found::Script { output: 0, len: 1 }));
    assert_eq!(fault(Fault::UnaskedCoinbaser), Some(Found::Value { asked: 1000, got: 1001 }));
    assert!(matches!(fault(Fault::LyingCoinbaser), Some(Found::Length { .. })));
}

#[test]
fn faults_show_in_share_responses() {
    let mut rig = Rig::open(quiet());
    let job = rig.job(BuildJob::Classes, &template(1, 200, 0));
    let coinbase = job.coinbase(CoinbaseClass::Tiny);
    rig.control.fault = Some(Fault::RejectShares);
    let share = rig.mine(&job, coinbase);
    assert_eq!(rig.answer(share), Err(ShareReason::OTHER));
    rig.control.fault = Some(Fault::SilentShares);
    let share = rig.mine(&job, coinbase);
    assert_eq!(rig.say(&ToPool::Share(share)), []);
    rig.control.fault = Some(Fault::Tentative);
    let share = rig.mine(&job, coinbase);
    let heard = rig.say(&ToPool::Share(share));
    assert!(matches!(&heard[..], [Heard::Response(r)] if r.status == ShareStatus::Tentative));
    rig.control.fault = Some(Fault::DisconnectOnShare);
    let share = rig.mine(&job, coinbase);
    assert_eq!(rig.send(&ToPool::Share(share.clone())), Err(PoolClose::OnPurpose));
    // Sent again, it is known.
    rig.control.fault = None;
    rig.hello();
    assert_eq!(rig.answer(share), Err(ShareReason::DUPLICATE));
    assert_eq!(rig.ledger.stats().accepted, 3);
    rig.control.cuts += 1;
    assert_eq!(rig.control(), Err(PoolClose::OnPurpose));
}

#[test]
fn the_pool_sends_keep_alives_and_announces_blocks() {
    let mut rig = Rig::open(PoolConfig { keepalive: Duration::from_secs(5), ..quiet() });
    let mut heard = Vec::new();
    for _ in 0..6 {
        rig.now.instant = rig.session.deadline().unwrap();
        let mut out = Vec::new();
        rig.session.on_deadline(rig.now, &rig.control, &mut out).unwrap();
        heard.extend(rig.hear(&out).unwrap());
    }
    assert_eq!(heard.iter().filter(|heard| **heard == Heard::Info).count(), 6);
    assert_eq!(heard.last(), Some(&Heard::Ping));
    rig.control.new_blocks += 1;
    assert_eq!(rig.control().unwrap(), [Heard::NewBlock]);
}

#[test]
fn a_connection_without_hello_is_cut_off() {
    let mut rig = Rig::new(quiet());
    rig.now.instant += HELLO_TIMEOUT;
    let end = rig.session.on_deadline(rig.now, &rig.control, &mut Vec::new());
    assert_eq!(end, Err(PoolClose::NoHello));
    for garbage in [vec![0; 4], vec![0xFF; 5000], vec![0x29, 0x18, 0x87, 0xDC]] {
        let mut rig = Rig::new(quiet());
        let mut out = Vec::new();
        // An empty body may be all that a header promises; it is still not a HELLO.
        assert!(rig.feed(&garbage, &mut out).is_err());
        assert!(out.is_empty());
    }
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_message_of_a_gateway_makes_the_pool_panic(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            kind in prop::sample::select(vec![0x10_u8, 0x27, 0x50]),
        ) {
            let mut rig = Rig::open(quiet());
            for message in messages {
                let mut wire = Vec::new();
                let (_, link) = rig.gateway.as_mut().unwrap();
                link.write_channel(None, &mut wire, |out| {
                    out.push(kind);
                    out.extend_from_slice(&message);
                }).unwrap();
                if rig.feed(&wire, &mut Vec::new()).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn no_share_with_wild_contexts_makes_the_pool_panic(
            at in 0usize..900, to: u8, cut in 0usize..900,
        ) {
            let mut rig = Rig::open(quiet());
            let job = rig.job(BuildJob::Classes, &template(1, 200, 3));
            let share = rig.mine(&job, job.coinbase(CoinbaseClass::Respectable));
            let mut plain = Vec::new();
            ToPool::Share(share).encode(&mut plain);
            if let Some(byte) = plain.get_mut(at) {
                *byte = to;
            }
            plain.truncate(plain.len() - cut.min(plain.len()) / 40);
            let mut wire = Vec::new();
            let (_, link) = rig.gateway.as_mut().unwrap();
            link.write_channel(None, &mut wire, |out| out.extend_from_slice(&plain)).unwrap();
            let _ = rig.feed(&wire, &mut Vec::new());
        }
    }
}

/// Everything that the C gateway said in the recorded session, replayed to this pool.
mod reference {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;
    use crate::devnet::pool::PoolStatsView;

    #[derive(Deserialize)]
    struct Line {
        dir: Option<String>,
        header: Option<RecordedHeader>,
        plain: Option<String>,
    }

    #[derive(Deserialize)]
    struct RecordedHeader {
        cmd: u8,
        signed: u8,
    }

    /// Mining messages: whether from the pool, and the plaintext without signature.
    fn messages() -> Vec<(bool, Vec<u8>)> {
        let text = include_str!("../../../tests/vectors/datum/reference-session.jsonl");
        let mut messages = Vec::new();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).unwrap();
            let (Some(dir), Some(header), Some(plain)) = (line.dir, line.header, line.plain) else {
                continue;
            };
            let mut bytes = vec![0; plain.len() / 2];
            faster_hex::hex_decode(plain.as_bytes(), &mut bytes).unwrap();
            if header.cmd == command::MINING {
                bytes.truncate(bytes.len() - if header.signed != 0 { 64 } else { 0 });
                messages.push((dir == "s2c", bytes));
            }
        }
        messages
    }

    fn recorded_config(messages: &[(bool, Vec<u8>)]) -> PoolConfig {
        let found = messages.iter().find_map(|(_, plain)| match ToGateway::decode(plain) {
            Ok(ToGateway::Configuration(found)) => Some(PoolConfig {
                tag: found.tag.to_vec(),
                script: found.script.to_vec(),
                prime_id: found.prime_id,
                ..quiet()
            }),
            _ => None,
        });
        found.unwrap()
    }

    fn replay() -> (PoolStatsView, HashMap<ShareReason, Vec<u8>>) {
        let messages = messages();
        let mut rig = Rig::open(recorded_config(&messages));
        let mut refused: HashMap<ShareReason, Vec<u8>> = HashMap::new();
        for (from_pool, plain) in &messages {
            let key = rig.long_term.public().ed25519;
            let memory = rig.ledger.gateway(&key);
            if *from_pool {
                let Ok(ToGateway::Coinbaser(message)) = ToGateway::decode(plain) else { continue };
                let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: message.value };
                let coinbaser = check_coinbaser(&message, request).unwrap().coinbaser;
                let outputs = coinbaser.outputs.to_vec().into();
                assert_eq!(memory.issue(1, request, outputs), coinbaser.id);
                continue;
            }
            match ToPool::decode(plain).unwrap() {
                ToPool::FetchCoinbaser { request, .. } => {
                    memory.on_request(request.prevhash, rig.now.instant);
                }
                ToPool::Share(share) => {
                    rig.now.unix = share.ntime.into();
                    let target_byte = share.target_byte;
                    if let Err(reason) = rig.answer(share) {
                        refused.entry(reason).or_default().push(target_byte);
                    }
                }
                // Of short ids that were made for another pool's key.
                ToPool::Validation { .. } => {}
            }
        }
        (rig.ledger.stats().clone(), refused)
    }

    #[test]
    fn the_c_gateways_shares_pass_every_check_except_that_of_their_work() {
        let (stats, mut refused) = replay();
        // The recording was made without share targets: shares that claim a difficulty do not meet
        // it.
        let unworked = refused.remove(&ShareReason::HASH_NOT_ZERO).unwrap_or_default();
        assert!(unworked.iter().all(|target_byte| *target_byte > 0));
        // Its subsidy-only work halves as on mainnet, and so claims too much.
        let overpaid = refused.remove(&ShareReason::BAD_COINBASE).unwrap_or_default();
        assert_eq!(refused, HashMap::new(), "{overpaid:?}");
        assert!(stats.accepted > 20, "{stats:?}");
        assert_eq!((stats.blocks_misflagged, stats.splits_max), (0, 40), "{stats:?}");
        assert_eq!(overpaid.len(), 2, "{stats:?}");
    }
}
