//! ESP-Miner and NerdQAxe on an extended channel, as modelled in `stratum::firmware`.

use bitcoin::hashes::{Hash as _, sha256d};

use super::*;
use crate::{
    stratum::firmware::{
        AXE_BRANCHES_MAX, AXE_FRAME_MAX, SPLITS, Shown, pooled, read_coinbase, template,
        whole_difficulty,
    },
    sv2::codec::{NewExtendedMiningJob, SetNewPrevHash},
};

/// What both do with messages (ESP-Miner main/tasks/stratum_v2_task.c, NerdQAxe
/// main/stratum/stratum_task_v2.cpp): a ring of eight jobs that wait for a prevhash, all activated
/// by the first one; and a screen that shows whatever job came last.
#[derive(Default)]
struct Axe {
    ring: [Option<AxeJob>; 8],
    prevhash: Option<SetNewPrevHash>,
    channel_id: u32,
    prefix: Vec<u8>,
    target: Option<Target>,
    shown: Option<Shown>,
    /// The real outputs of what is shown.
    outputs: Vec<(u64, Vec<u8>)>,
    mining: Option<AxeJob>,
    sequence: u32,
}

#[derive(Clone)]
struct AxeJob {
    id: u32,
    version: u32,
    ntime: u32,
    path: Vec<Hash256>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl Axe {
    fn receive(&mut self, mut frames: &[u8]) {
        while let Some((header, rest)) = frames.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(*header);
            let (payload, rest) = rest.split_at(header.len as usize);
            assert!(payload.len() <= AXE_FRAME_MAX, "{} bytes: it hangs up", payload.len());
            frames = rest;
            match ServerMessage::decode(header, payload, Extensions::default()).unwrap() {
                ServerMessage::OpenExtendedMiningChannelSuccess(open) => {
                    self.channel_id = open.channel_id;
                    self.prefix = open.extranonce_prefix.get().to_vec();
                    self.target = Some(open.target);
                }
                ServerMessage::SetTarget(set) => self.target = Some(set.maximum_target),
                ServerMessage::NewExtendedMiningJob(job) => self.on_job(&job),
                ServerMessage::SetNewPrevHash(prevhash) => self.on_prevhash(prevhash),
                _ => {}
            }
        }
    }

    fn on_job(&mut self, job: &NewExtendedMiningJob<'_>) {
        let own = AxeJob {
            id: job.job_id,
            version: job.version,
            ntime: job.min_ntime.unwrap_or(0),
            path: job.merkle_path.iter().collect(),
            prefix: job.coinbase_tx_prefix.get().to_vec(),
            suffix: job.coinbase_tx_suffix.get().to_vec(),
        };
        assert!(own.path.len() <= AXE_BRANCHES_MAX);
        let own_part = self.prefix.len() + 8;
        self.shown = read_coinbase(&own.prefix, &own.suffix, own_part);
        let bytes = own.coinbase(&vec![0; own_part]);
        let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(&bytes).unwrap();
        let output = |out: bitcoin::TxOut| (out.value.to_sat(), out.script_pubkey.to_bytes());
        self.outputs = coinbase.output.into_iter().map(output).collect();
        if own.ntime > 0 && self.prevhash.is_some() {
            self.mining = Some(own);
        } else {
            let place = own.id as usize % self.ring.len();
            self.ring[place] = Some(own);
        }
    }

    fn on_prevhash(&mut self, prevhash: SetNewPrevHash) {
        let place = prevhash.job_id as usize % self.ring.len();
        let begun = self.ring[place].take_if(|job| job.id == prevhash.job_id);
        let first = self.prevhash.is_none();
        let others = self.ring.iter_mut().filter(|_| first).filter_map(Option::take);
        for job in begun.into_iter().chain(others) {
            self.mining = Some(AxeJob { ntime: prevhash.min_ntime, ..job });
        }
        self.prevhash = Some(prevhash);
    }

    fn mine(&mut self) -> (SubmitSharesStandard, Vec<u8>) {
        let (job, prevhash) = (self.mining.as_ref().unwrap(), self.prevhash.as_ref().unwrap());
        self.sequence += 1;
        let rolled = u64::from(self.sequence).to_be_bytes().to_vec();
        let txid = sha256d::Hash::hash(&job.coinbase(&[&*self.prefix, &rolled].concat()));
        let root = job.path.iter().fold(txid.to_byte_array(), |root, branch| {
            sha256d::Hash::hash(&[root, branch.0].concat()).to_byte_array()
        });
        let mut header = [&job.version.to_le_bytes()[..], &prevhash.prev_hash.0, &root].concat();
        header.extend_from_slice(&job.ntime.to_le_bytes());
        header.extend_from_slice(&prevhash.nbits.to_le_bytes());
        let is_share = |nonce: &u32| {
            let hash = sha256d::Hash::hash(&[&header, &nonce.to_le_bytes()[..]].concat());
            self.target.unwrap().is_met_by(&Hash256(hash.to_byte_array()))
        };
        let share = SubmitSharesStandard {
            channel_id: self.channel_id,
            sequence_number: self.sequence,
            job_id: job.id,
            nonce: (0..).find(is_share).unwrap(),
            ntime: job.ntime,
            version: job.version,
        };
        (share, rolled)
    }
}

impl AxeJob {
    fn coinbase(&self, extranonce: &[u8]) -> Vec<u8> {
        [&self.prefix, extranonce, &self.suffix].concat()
    }
}

/// A gateway with one such miner.
struct Pair {
    bench: Sv2SessionHarness,
    axe: Axe,
    splits: usize,
}

impl Pair {
    fn new(vendor: &str, splits: usize) -> Self {
        let mut bench = Sv2SessionHarness::with(config(), HARD, &pooled(1, splits));
        bench.feed.publish(BuildJob::Classes, &template(1), &pooled(1, splits), Announce::Now);
        bench.tap = Some(Vec::new());
        bench.setup(0, vendor);
        let mut pair = Self { bench, axe: Axe::default(), splits };
        pair.bench.extended();
        pair.receives();
        pair
    }

    fn receives(&mut self) {
        self.axe.receive(&self.bench.tap.replace(Vec::new()).unwrap());
    }

    fn publish(&mut self, tip_at: u8, what: BuildJob) {
        let template =
            if what == BuildJob::SubsidyOnly { tip(tip_at, HARD) } else { template(tip_at) };
        let Sv2SessionHarness { feed, session, now, out, .. } = &mut self.bench;
        feed.publish(what, &template, &pooled(tip_at, self.splits), Announce::Now);
        session.on_work(&feed.work, *now, out).unwrap();
        self.bench.listen();
        self.receives();
    }

    /// Checks that its shares count, and that its screen shows the block that it works on.
    #[track_caller]
    fn is_good(&mut self, height: u32) {
        let found = self.axe.mine();
        self.bench.submit(found).unwrap();
        self.receives();
        let shown = self.axe.shown.as_ref().expect("it could not read the coinbase");
        assert_eq!(shown.outputs, self.axe.outputs, "{} splits", self.splits);
        assert_eq!(shown.height, height, "{} splits", self.splits);
    }
}

const VENDORS: [&str; 9] = [
    "bitaxe",
    "NerdQAxe+",
    "NerdAxeGamma",
    "NerdOCTAXE-γ",
    "NerdEKO",
    "NerdHaxe-γ",
    "NerdQX",
    "Q1370",
    "Q1373",
];

#[test]
fn an_axe_reads_its_payouts_and_its_height_on_every_kind_of_work() {
    for vendor in VENDORS {
        for splits in SPLITS {
            let mut pair = Pair::new(vendor, splits);
            pair.is_good(840_001);
            let own = if splits > 0 { 1_000_003 } else { 0 };
            assert_eq!(pair.axe.shown.as_ref().unwrap().to_user(), own, "{splits}");
            assert_eq!(pair.axe.shown.as_ref().unwrap().total(), 312_550_000);
            pair.publish(1, BuildJob::Classes);
            pair.is_good(840_001);
            // The header first, then everything at once, then a block further than expected.
            for (tip, what) in [
                (2, BuildJob::SubsidyOnly),
                (2, BuildJob::Blank),
                (2, BuildJob::Classes),
                (3, BuildJob::Classes),
                (3, BuildJob::Classes),
                (5, BuildJob::SubsidyOnly),
                (5, BuildJob::Classes),
            ] {
                pair.publish(tip, what);
                if what == BuildJob::SubsidyOnly {
                    // The full job follows in a moment; until then the screen still shows the last
                    // one.
                    let found = pair.axe.mine();
                    pair.bench.submit(found).unwrap();
                    pair.receives();
                } else {
                    pair.is_good(840_000 + u32::from(tip));
                }
            }
        }
    }
}

/// ESP-Miner up to 2.14 and NerdQAxe truncate them: what they hash for less would be refused.
#[test]
fn targets_of_one_and_more_are_whole_difficulties() {
    for hashrate in [1e12, 3.3e9, 5.5e9, 1.7e12, 4.8e12, 9.99e13] {
        let mut bench = Sv2SessionHarness::solo();
        let channel = bench.open(ChannelKind::Extended, hashrate, Target::MAX).unwrap();
        let own = bench.session.channels[0].vardiff.difficulty();
        assert_eq!(f64::from(whole_difficulty(&bench.peer.target(channel))), own.get());
        assert!(Target::from_difficulty(own) >= bench.peer.target(channel));
    }
}
