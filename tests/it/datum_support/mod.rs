//! A scripted pool, and work to mine for it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gatewayd::{
    datum::{
        BODY_MAX, Frame, FrameBuffer, HeaderKey, Identity, Link, PublicIdentity, Visitor, command,
        message::{
            CoinbaserMessage, Configuration, Response, ShareReason, ShareResponse, ShareStatus,
            ToGateway, ToPool,
        },
    },
    work::{
        Admission, Announce, BlockLimits, BuildJob, CoinbaseClass, Hash256, Job, JobBuilder, Nbits,
        Payout, PayoutOutput, Share, Template, TemplateKind, TemplateTx, Username, Work,
    },
};
use rand::{SeedableRng, rngs::StdRng};

pub const SCRIPT: [u8; 22] = [0x51; 22];
pub const TAG: &[u8] = b"scripted";
pub const PRIME_ID: u32 = 77;

#[allow(clippy::disallowed_methods, reason = "any instant will do to start from")]
pub fn start() -> Instant {
    Instant::now()
}

pub fn pool_identity() -> Identity {
    Identity::from_secrets(&[1; 32], [2; 32])
}

pub fn pool_key() -> PublicIdentity {
    *pool_identity().public()
}

/// The pool's end of one connection.
pub struct ScriptedPool {
    pub identity: Identity,
    pub session: Identity,
    pub visitor: Visitor,
    pub link: Link,
    /// The slot of each nonce that it has received.
    pub slots: HashMap<u32, u8>,
    rng: StdRng,
}

impl ScriptedPool {
    /// Reads HELLO.
    pub fn meet(hello: &[u8]) -> Self {
        let identity = pool_identity();
        let mut inbox = FrameBuffer::new(BODY_MAX);
        inbox.push(hello);
        let (header, body) = inbox.next(&mut HeaderKey::HELLO.clone()).unwrap().unwrap();
        let visitor = Visitor::read(&header, &body, &identity).unwrap();
        let session = Identity::from_secrets(&[3; 32], [4; 32]);
        let link = visitor.link(&session);
        let slots = HashMap::new();
        Self { identity, session, visitor, link, slots, rng: StdRng::seed_from_u64(7) }
    }

    pub fn response(&mut self, motd: &str) -> Vec<u8> {
        let echo = self.visitor.keys;
        let signer = self.identity.clone();
        self.odd_response(motd, echo, &signer)
    }

    /// A response with a wrong echo or signature.
    pub fn odd_response(
        &mut self,
        motd: &str,
        echo: gatewayd::datum::message::GatewayKeys,
        signer: &Identity,
    ) -> Vec<u8> {
        let session = *self.session.public();
        let response = Response { echo, session, motd: motd.as_bytes(), padding: &[] };
        let (mut message, mut out) = (Vec::new(), Vec::new());
        response.encode(&mut message);
        let to = self.visitor.keys.session;
        self.link
            .write_sealed(command::RESPONSE, message, signer, &to, &mut self.rng, &mut out)
            .unwrap();
        out
    }

    /// Any bytes as a mining message.
    pub fn mining(&mut self, plain: &[u8], signed: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let signer = self.session.clone();
        self.link
            .write_channel(signed.then_some(&signer), &mut out, |out| out.extend_from_slice(plain))
            .unwrap();
        out
    }

    pub fn say(&mut self, message: &ToGateway<'_>) -> Vec<u8> {
        let signed = matches!(message, ToGateway::Configuration(_));
        self.mining(&encoded(message), signed)
    }

    pub fn configuration(&mut self) -> Vec<u8> {
        self.say(&configuration(&SCRIPT, TAG, 0))
    }

    pub fn coinbaser(&mut self, value: u64, id: u8, outputs: &[PayoutOutput]) -> Vec<u8> {
        let body = CoinbaserMessage::encode_body(id, outputs);
        let len = u32::try_from(body.len()).unwrap();
        self.say(&ToGateway::Coinbaser(CoinbaserMessage { value, len, body: &body, padding: &[] }))
    }

    pub fn answer(&mut self, share: &Share, status: ShareStatus, reason: ShareReason) -> Vec<u8> {
        self.say(&ToGateway::ShareResponse(ShareResponse {
            status,
            reason,
            nonce: share.nonce,
            target_byte: share.target_byte,
            slot: self.slots.get(&share.nonce).copied().unwrap_or_default(),
        }))
    }

    pub fn info(&mut self, text: &str) -> Vec<u8> {
        self.plain(command::INFO, format!("{text}\0").as_bytes())
    }

    pub fn plain(&mut self, command: u8, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.link.write_plain(command, message, &mut out);
        out
    }

    /// The plaintexts of what the gateway sent.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.link.push(bytes);
        let mut messages = Vec::new();
        while let Some(Frame { plain, .. }) = self.link.next(&self.session).unwrap() {
            if let ToPool::Share(share) = ToPool::decode(&plain).unwrap() {
                self.slots.insert(share.nonce, share.slot);
            }
            messages.push(plain.to_vec());
        }
        messages
    }
}

pub fn encoded(message: &ToGateway<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

pub fn configuration<'a>(script: &'a [u8], tag: &'a [u8], min_difficulty: u64) -> ToGateway<'a> {
    ToGateway::Configuration(Configuration {
        script,
        prime_id: PRIME_ID,
        tag,
        min_difficulty,
        padding: &[],
    })
}

pub fn output(value: u64, byte: u8) -> PayoutOutput {
    PayoutOutput { value, script: [byte; 22].into() }
}

/// A template of three transactions on a tip named by a byte.
pub fn template(tip: u8, value: u64) -> Arc<Template> {
    let transactions: Vec<_> = (1..=3u8).map(transaction).collect();
    Arc::new(Template {
        source: "test".into(),
        kind: TemplateKind::Full,
        height: 200,
        version: 0x2000_0000,
        prevhash: Hash256([tip; 32]),
        nbits: Nbits::new(0x207f_ffff).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        coinbase_value: value,
        fees: 3000,
        witness_commitment: Some([&[0x6a, 0x24][..], &[9; 36]].concat().into()),
        merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
        total_size: 300,
        total_weight: 1200,
        total_sigops: 12,
        limits: BlockLimits::CONSENSUS,
        transactions: transactions.into(),
    })
}

fn transaction(byte: u8) -> TemplateTx {
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: bitcoin::OutPoint::new(
                bitcoin::hashes::Hash::from_byte_array([byte; 32]),
                0,
            ),
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
        raw: Bytes::from(bitcoin::consensus::serialize(&transaction)),
        fee: 1000,
        weight: 400,
        sigops: 4,
    }
}

/// Makes jobs, and the work that has them.
pub struct Jobs {
    builder: JobBuilder,
    jobs: Vec<Arc<Job>>,
}

impl Jobs {
    pub fn new() -> Self {
        Self { builder: JobBuilder::new(1), jobs: Vec::new() }
    }

    pub fn add(&mut self, template: &Arc<Template>, payout: &Arc<Payout>) -> Arc<Job> {
        let job = self.builder.build(BuildJob::Classes, template, payout);
        self.jobs.insert(0, Arc::clone(&job));
        job
    }

    pub fn work(&self) -> Arc<Work> {
        Arc::new(Work {
            jobs: self.jobs.clone().into(),
            announce: Announce::Now,
            upcoming: None,
            sequence: self.jobs.len() as u64,
            admission: Admission::Open,
            void_series: 0,
        })
    }
}

/// A share that nobody has mined.
pub fn share(job: &Arc<Job>, nonce: u32) -> Share {
    Share {
        job: Arc::clone(job),
        coinbase_id: CoinbaseClass::Default,
        quickdiff: false,
        target_byte: 0,
        difficulty: 1.0,
        extranonce: [5; 12],
        ntime: 1_700_000_001,
        nonce,
        version: 0x2000_0000,
        hash: Hash256::sha256d(&nonce.to_le_bytes()),
        is_block: false,
        username: Username("addr.rig".into()),
        miner: 0,
    }
}

pub const SECOND: Duration = Duration::from_secs(1);
