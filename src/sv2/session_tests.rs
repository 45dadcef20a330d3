use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::{
        codec::{
            Bytes32, CloseChannel, HEADER_LEN, Header, OpenExtendedMiningChannel,
            OpenStandardMiningChannel, RequestExtensions, Seq64K, ServerMessage,
            SubmitSharesExtended, WorkerName, protocol,
        },
        link::read,
        peer::Peer,
    },
    *,
};
use crate::{
    books::{Counters, Roster, roster::Eviction},
    stratum::{
        ClassRule, Classes, ConnectionLimits,
        gate::{self, ConnectionGate},
    },
    work::fixture::{CURTIME, EASY, HARD, WorkFeed, pooled, solo, template, tip},
    work::{
        Admission, Announce, BuildJob, CoinbaseClass, Difficulty, Hash256, Payout, Refused, Share,
        Template, Username, limits::LimitRules, merkle,
    },
};

/// A session, the work that reaches it, and a client that holds it to the specification.
struct Sv2SessionHarness {
    feed: WorkFeed,
    payout: Arc<Payout>,
    session: Sv2Session,
    peer: Peer,
    now: Instant,
    published: Instant,
    out: Vec<u8>,
    effects: Effects,
    /// Every frame that was sent, if recorded.
    tap: Option<Vec<u8>>,
    /// Messages of the last exchange, by name.
    heard: Vec<&'static str>,
}

fn least() -> Difficulty {
    Difficulty::new(1e-9).unwrap()
}

fn config() -> Config {
    let mut config = Config::with_address("bc1qnobody");
    // Every fourth hash is a share.
    (config.difficulty_min, config.difficulty_start) = (least(), least());
    config
}

/// Room for this many channels besides the connection's own.
fn within(channels: usize) -> ConnectionLimits {
    ConnectionLimits { connections: channels, ..ConnectionLimits::NONE }
}

impl Sv2SessionHarness {
    fn with(config: Config, nbits: u32, payout: &Arc<Payout>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let mut feed = WorkFeed::new(nbits, payout);
        feed.publish(BuildJob::Classes, &template(1, nbits, 5), payout, Announce::Now);
        let origin = Origin::standalone_within(within(1999), &Arc::default(), [9, 9, 9, 9], now);
        let session = Sv2Session::new(Arc::new(config), origin, &feed.work, now);
        Self {
            feed,
            payout: Arc::clone(payout),
            session,
            peer: Peer::default(),
            now,
            published: now,
            out: Vec::new(),
            effects: Effects::default(),
            tap: None,
            heard: Vec::new(),
        }
    }

    fn solo() -> Self {
        let mut bench = Self::with(config(), HARD, &solo());
        bench.setup(0, "test");
        bench
    }

    /// Powers of two from 2^-30 on.
    fn pooled() -> Self {
        let mut bench = Self::with(config(), HARD, &pooled(0));
        bench.setup(0, "test");
        bench
    }

    fn say<'a, M: Message<'a>>(&mut self, message: &M) -> Result<(), Closing> {
        let mut frame = Vec::new();
        message.append(&mut frame);
        self.say_frame(&frame)
    }

    fn say_frame(&mut self, frame: &[u8]) -> Result<(), Closing> {
        let (header, payload) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
        let Self { session, feed, out, effects, .. } = self;
        let extensions = session.extensions();
        let message = read(Header::decode(*header), payload, extensions, &mut effects.tally);
        session.on_message(&message.unwrap(), &feed.work, self.now, out, effects)
    }

    /// What the session has sent since the last call.
    fn listen(&mut self) -> &[&'static str] {
        self.session.answer_shares(&mut self.out);
        let said = std::mem::take(&mut self.out);
        if let Some(tap) = &mut self.tap {
            tap.extend_from_slice(&said);
        }
        self.heard = self.peer.receive(&said);
        &self.heard
    }

    fn setup(&mut self, flags: u32, vendor: &str) {
        self.say(&SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags,
            endpoint_host: Str255::default(),
            endpoint_port: 0,
            vendor: Str255::new(vendor).unwrap(),
            hardware_version: Str255::new("hw").unwrap(),
            firmware: Str255::default(),
            device_id: Str255::default(),
        })
        .unwrap();
        assert_eq!(self.listen(), ["SetupConnectionSuccess"]);
    }

    fn open(
        &mut self,
        kind: ChannelKind,
        hashrate: f32,
        max_target: Target,
    ) -> Result<u32, String> {
        let user_identity = Str255::new("bc1qme.one").unwrap();
        match kind {
            ChannelKind::Standard => self.say(&OpenStandardMiningChannel {
                request_id: 7,
                user_identity,
                nominal_hash_rate: hashrate,
                max_target,
            }),
            ChannelKind::Extended => self.say(&OpenExtendedMiningChannel {
                request_id: 7,
                user_identity,
                nominal_hash_rate: hashrate,
                max_target,
                min_extranonce_size: 8,
            }),
        }
        .unwrap();
        self.listen();
        self.peer.opened()
    }

    fn standard(&mut self) -> u32 {
        self.open(ChannelKind::Standard, 0.0, Target::MAX).unwrap()
    }

    fn extended(&mut self) -> u32 {
        self.open(ChannelKind::Extended, 0.0, Target::MAX).unwrap()
    }

    fn publish(&mut self, tip_at: u8, what: BuildJob, announce: Announce) {
        let template = match what {
            BuildJob::SubsidyOnly => tip(tip_at, HARD),
            _ => template(tip_at, HARD, u32::from(tip_at) % 7),
        };
        let payout = Arc::clone(&self.payout);
        self.published = self.now;
        self.feed.publish(what, &template, &payout, announce);
        self.session.on_work(&self.feed.work, self.now, &mut self.out).unwrap();
        self.listen();
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Jobs are renewed before they are too old to be submitted to, with all that pacing adds.
    fn refresh(&mut self, tip_at: u8) {
        if self.now >= self.published + Duration::from_secs(40) {
            self.publish(tip_at, BuildJob::Classes, Announce::Now);
        }
    }

    /// Does what has fallen due.
    fn tick(&mut self) {
        if self.session.deadline() <= self.now && !self.session.channels.is_empty() {
            self.session.on_deadline(&self.feed.work, self.now, &mut self.out).unwrap();
            self.listen();
        }
    }

    /// Lets the client find and send a share of its newest job.
    fn mine(&mut self, channel: u32) -> Result<Share, String> {
        let found = self.peer.mine(channel);
        self.submit(found)
    }

    fn submit(
        &mut self,
        (share, rolled): (SubmitSharesStandard, Vec<u8>),
    ) -> Result<Share, String> {
        let is_standard = self.peer.is_standard(share.channel_id);
        if is_standard {
            self.say(&share).unwrap();
        } else {
            let extranonce = Bytes32::new(&rolled).unwrap();
            self.say(&SubmitSharesExtended { share, extranonce, worker: None }).unwrap();
        }
        self.listen();
        match self.peer.refusal() {
            Some(code) => Err(code),
            None => Ok(self.effects.shares.pop().expect("neither share nor refusal")),
        }
    }

    /// Its connection comes through a gate that has no more places for channels than this.
    fn with_places_for(&mut self, connections: usize) -> (Arc<ConnectionGate>, Arc<Eviction>) {
        let (roster, eviction) = (Roster::new(self.now), Arc::<Eviction>::default());
        let limits = ConnectionLimits { connections, connections_per_ip: connections, unproven: 0 };
        let limits = tokio::sync::watch::channel(limits).1;
        let gate = Arc::new(ConnectionGate::new(limits, Arc::default(), Arc::clone(&roster), 7));
        let peer: std::net::SocketAddr = "203.0.113.7:5".parse().unwrap();
        let place =
            gate.enter(peer.ip(), gate::PlaceKind::Connection, &eviction, self.now).unwrap();
        let seen = Arc::default();
        self.session.origin = Origin::new(peer, roster, place, Arc::clone(&eviction), seen);
        (gate, eviction)
    }

    fn rejected(&self, reject: Reject) -> u32 {
        self.effects.tally.rejected(reject)
    }
}

#[test]
fn a_channel_gets_a_future_job_then_its_prevhash_then_the_next_tips() {
    let mut bench = Sv2SessionHarness::solo();
    bench.standard();
    assert_eq!(
        bench.heard,
        ["OpenStandardMiningChannelSuccess", "NewMiningJob", "SetNewPrevHash", "NewMiningJob"]
    );
    bench.extended();
    assert_eq!(
        bench.heard,
        [
            "OpenExtendedMiningChannelSuccess",
            "NewExtendedMiningJob",
            "SetNewPrevHash",
            "NewExtendedMiningJob"
        ]
    );
}

#[test]
fn shares_of_both_kinds_are_accepted_and_attributed() {
    let mut bench = Sv2SessionHarness::solo();
    for channel in [bench.standard(), bench.extended(), bench.standard()] {
        let share = bench.mine(channel).unwrap();
        assert_eq!(share.username, Username("bc1qme.one".into()));
        assert_eq!(bench.heard, ["SubmitSharesSuccess"]);
        assert_eq!(share.extranonce, bench.peer.extranonce(channel));
    }
    assert_eq!(bench.effects.tally.accepted(), 3);
}

#[test]
fn a_standard_channel_gets_the_largest_coinbase() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.standard();
    assert_eq!(bench.mine(channel).unwrap().coinbase_id, CoinbaseClass::Huge);
    let channel = bench.extended();
    assert_eq!(bench.mine(channel).unwrap().coinbase_id, CoinbaseClass::Default);
}

#[test]
fn a_new_tip_is_one_small_message() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut bench = Sv2SessionHarness::solo();
        let channel = bench.open(kind, 0.0, Target::MAX).unwrap();
        bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
        assert_eq!(bench.heard, ["SetNewPrevHash"]);
        let share = bench.mine(channel).unwrap();
        assert!(share.job.is_empty());
        bench.publish(2, BuildJob::Classes, Announce::Now);
        assert_eq!(bench.heard.len(), 2, "the next tip's and the full one");
        assert!(!bench.mine(channel).unwrap().job.is_empty());
    }
}

#[test]
fn a_group_takes_its_jobs_in_one_message() {
    let mut bench = Sv2SessionHarness::solo();
    let channels = [bench.extended(), bench.extended(), bench.extended()];
    bench.publish(1, BuildJob::Classes, Announce::Now);
    assert!(bench.heard.len() <= 2, "{:?}", bench.heard);
    bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
    assert_eq!(bench.heard, ["SetNewPrevHash"]);
    bench.publish(2, BuildJob::Classes, Announce::Now);
    assert_eq!(bench.heard, ["NewExtendedMiningJob", "NewExtendedMiningJob"]);
    for channel in channels {
        bench.mine(channel).unwrap();
    }
}

#[test]
fn a_tip_that_was_guessed_wrong_comes_in_full() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.extended();
    // Two blocks further: another height.
    bench.publish(3, BuildJob::SubsidyOnly, Announce::Now);
    assert_eq!(bench.heard, ["NewExtendedMiningJob", "SetNewPrevHash"]);
    bench.mine(channel).unwrap();
    // No header first: the full template at once.
    bench.publish(4, BuildJob::Classes, Announce::Now);
    assert_eq!(bench.heard, ["NewExtendedMiningJob", "SetNewPrevHash", "NewExtendedMiningJob"]);
    bench.mine(channel).unwrap();
}

#[test]
fn other_bits_come_with_the_tip_once_more() {
    let mut bench = Sv2SessionHarness::solo();
    let channels = [bench.standard(), bench.extended(), bench.extended()];
    let payout = Arc::clone(&bench.payout);
    for bits in [HARD - 1, HARD] {
        bench.feed.publish(BuildJob::Classes, &template(1, bits, 3), &payout, Announce::Now);
        bench.session.on_work(&bench.feed.work, bench.now, &mut bench.out).unwrap();
        assert!(bench.listen().contains(&"SetNewPrevHash"), "{:?}", bench.heard);
        for channel in channels {
            // One that hashes with other bits than its job's is right once in four times.
            for _ in 0..3 {
                bench.later(4);
                bench.mine(channel).unwrap();
            }
        }
    }
}

#[test]
fn a_block_is_found_on_either_kind_of_channel() {
    let mut bench = Sv2SessionHarness::with(config(), EASY, &solo());
    bench.setup(0, "test");
    for channel in [bench.standard(), bench.extended()] {
        while bench.effects.blocks.is_empty() {
            let _ = bench.mine(channel);
        }
        let block = bench.effects.blocks.pop().unwrap();
        assert_eq!(block.hash, Hash256::sha256d(&block.header));
        let root = merkle::root(Hash256::sha256d(&block.coinbase), block.job.branches());
        assert_eq!(block.header[36..68], root.0);
    }
}

#[test]
fn a_flood_at_a_fixed_difficulty_is_ended_on_a_channel_too() {
    let mut config = config();
    config.worker_difficulty.insert("bc1qme.one".into(), Difficulty::new(1e-9).unwrap());
    let mut bench = Sv2SessionHarness::with(config, 0x1900_ffff, &solo());
    bench.setup(0, "test");
    for kind in [ChannelKind::Extended, ChannelKind::Standard] {
        let channel = bench.open(kind, 0.0, Target::MAX).unwrap();
        let before = bench.peer.target(channel);
        for _ in 0..600 {
            assert_eq!(bench.peer.target(channel), before);
            bench.now += Duration::from_millis(25);
            bench.mine(channel).unwrap();
        }
        let eased = before.difficulty() / bench.peer.target(channel).difficulty();
        assert!((eased * 40.0 - 1.0).abs() < 0.01, "one a second: {eased}");
        let odd = bench.session.origin.roster.client_mistakes().recent(bench.now).remove(0);
        assert_eq!(odd.mistake.code(), "difficulty-flood");
    }
}

/// SRI's translator grants BIP 323's bits to its miners; a pool is told the whole version.
#[test]
fn bits_of_bip_323_roll_and_those_of_bip_320_for_a_pool_too() {
    let mut wide = config();
    wide.pooled_version_mask = 0x1fff_ffe0;
    let mut wide = Sv2SessionHarness::with(wide, HARD, &pooled(0));
    wide.setup(0, "test");
    for (mut bench, is_wide) in
        [(Sv2SessionHarness::solo(), true), (Sv2SessionHarness::pooled(), false), (wide, true)]
    {
        for channel in [bench.standard(), bench.extended()] {
            for bits in [0x20, 0x1fe0, 0x2000, 0x1fff_ffe0] {
                bench.peer.rolled_version = bits;
                let share = bench.mine(channel);
                if is_wide || bits & !0x1fff_e000 == 0 {
                    let share = share.unwrap();
                    assert_eq!(share.version, share.job.version ^ bits);
                } else {
                    assert_eq!(share.unwrap_err(), "invalid-non-rollable-version-bit");
                }
            }
        }
    }
}

#[test]
fn subsidy_only_work_has_no_twin() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut bench = Sv2SessionHarness::solo();
        let channel_id = bench.open(kind, 0.0, Target::MAX).unwrap();
        let ask = |bench: &mut Sv2SessionHarness, exponent| {
            bench.later(5);
            let maximum_target = Target::from_difficulty(Difficulty::pow2(exponent));
            let update = UpdateChannel { channel_id, nominal_hash_rate: 0.0, maximum_target };
            bench.say(&update).unwrap();
            bench.listen().to_vec()
        };
        // On full work it takes effect at once, with a job.
        assert!(ask(&mut bench, -20).iter().any(|name| name.ends_with("MiningJob")));
        bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
        bench.listen();
        assert_eq!(ask(&mut bench, -10), ["SetTarget"], "{kind:?}");
    }
}

#[test]
fn a_block_with_any_bits_of_the_version_is_found() {
    let mut bench = Sv2SessionHarness::with(config(), EASY, &pooled(0));
    bench.setup(0, "test");
    // It may not roll the last bit, nor, on work for a pool, bits that only BIP 323 allows.
    for bits in [0x2000, 0x20, 1] {
        bench.peer.rolled_version = bits;
        for channel in [bench.standard(), bench.extended()] {
            while bench.effects.blocks.is_empty() {
                assert_eq!(bench.mine(channel).is_ok(), bits == 0x2000);
            }
            let block = bench.effects.blocks.pop().unwrap();
            assert_eq!(block.header[..4], (block.job.version ^ bits).to_le_bytes());
            assert!(block.job.block_target.is_met_by(&Hash256::sha256d(&block.header)));
        }
    }
}

#[test]
fn the_first_difficulty_suits_the_hashrate() {
    let mut bench = Sv2SessionHarness::solo();
    // 2^32 hashes in 7.5 s.
    let channel = bench.open(ChannelKind::Extended, 4_294_967_296.0 / 7.5, Target::MAX).unwrap();
    let difficulty = bench.peer.target(channel).difficulty();
    assert!((0.99..1.01).contains(&difficulty), "{difficulty}");
}

#[test]
fn a_maximum_target_is_honoured() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut bench = Sv2SessionHarness::solo();
        for exponent in [-20, -3, 5, 40] {
            let wanted = Target::from_difficulty(Difficulty::pow2(exponent));
            let channel = bench.open(kind, 1.0, wanted).unwrap();
            assert!(bench.peer.target(channel) <= wanted);
            let odd = Target::from_difficulty(Difficulty::new(1.0 / 3.0).unwrap());
            let channel = bench.open(kind, 1.0, odd).unwrap();
            assert!(bench.peer.target(channel) <= odd);
        }
    }
}

#[test]
fn impossible_opens_are_refused_by_name() {
    let mut bench = Sv2SessionHarness::solo();
    let mut refused =
        |hashrate, max_target| bench.open(ChannelKind::Standard, hashrate, max_target);
    assert_eq!(refused(f32::NAN, Target::MAX).unwrap_err(), "invalid-nominal-hashrate");
    assert_eq!(refused(f32::INFINITY, Target::MAX).unwrap_err(), "invalid-nominal-hashrate");
    assert_eq!(refused(-1.0, Target::MAX).unwrap_err(), "invalid-nominal-hashrate");
    assert_eq!(refused(1.0, Target::ZERO).unwrap_err(), "max-target-out-of-range");
    let big = OpenExtendedMiningChannel {
        request_id: 1,
        user_identity: Str255::default(),
        nominal_hash_rate: 0.0,
        max_target: Target::MAX,
        min_extranonce_size: 9,
    };
    bench.say(&big).unwrap();
    bench.listen();
    assert_eq!(bench.peer.opened().unwrap_err(), "min-extranonce-size-too-large");
    let mut frame = Vec::new();
    OpenExtendedMiningChannel { min_extranonce_size: 0, ..big }.append(&mut frame);
    bench.say(&OpenExtendedMiningChannel { min_extranonce_size: 0, ..big }).unwrap();
    bench.listen();
    bench.peer.opened().unwrap();
}

#[test]
fn clients_for_standard_jobs_get_no_extended_channel() {
    let mut bench = Sv2SessionHarness::with(config(), HARD, &solo());
    bench.setup(setup_flags::REQUIRES_STANDARD_JOBS, "test");
    let refused = bench.open(ChannelKind::Extended, 0.0, Target::MAX).unwrap_err();
    assert_eq!(refused, "extended-channels-not-supported-for-standard-jobs");
    let channel = bench.standard();
    bench.mine(channel).unwrap();
}

#[test]
fn impossible_setups_are_refused_by_name() {
    #[track_caller]
    fn case(change: impl Fn(&mut SetupConnection<'static>), code: &str, flags: u32) {
        let mut bench = Sv2SessionHarness::with(config(), HARD, &solo());
        let mut setup = SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: Str255::default(),
            endpoint_port: 0,
            vendor: Str255::default(),
            hardware_version: Str255::default(),
            firmware: Str255::default(),
            device_id: Str255::default(),
        };
        change(&mut setup);
        assert!(matches!(bench.say(&setup), Err(Closing::Violation(_))));
        let (header, payload) = bench.out.split_first_chunk::<HEADER_LEN>().unwrap();
        let heard = ServerMessage::decode(Header::decode(*header), payload, Extensions::default());
        let error_code = Str255::new(code).unwrap();
        assert_eq!(
            heard.unwrap(),
            ServerMessage::SetupConnectionError(SetupConnectionError { flags, error_code })
        );
    }
    case(|it| it.protocol = 1, "unsupported-protocol", 0);
    case(|it| it.min_version = 3, "protocol-version-mismatch", 0);
    case(|it| it.max_version = 1, "protocol-version-mismatch", 0);
    case(|it| it.flags = 0b0110, "unsupported-feature-flags", 0b0010);
    case(|it| it.flags = 0b1001, "unsupported-feature-flags", 0b1000);
}

#[test]
fn nothing_comes_before_the_setup_and_it_comes_once() {
    let mut bench = Sv2SessionHarness::with(config(), HARD, &solo());
    let close = CloseChannel { channel_id: 1, reason_code: Str255::default() };
    assert!(matches!(bench.say(&close), Err(Closing::Violation(_))));
    bench.setup(0, "test");
    let again = SetupConnection {
        protocol: protocol::MINING,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: Str255::default(),
        endpoint_port: 0,
        vendor: Str255::default(),
        hardware_version: Str255::default(),
        firmware: Str255::default(),
        device_id: Str255::default(),
    };
    assert!(matches!(bench.say(&again), Err(Closing::Violation(_))));
}

#[test]
fn refusals_have_their_codes() {
    let mut bench = Sv2SessionHarness::solo();
    for channel in [bench.standard(), bench.extended()] {
        let (share, rolled) = bench.peer.mine(channel);
        bench.submit((share, rolled.clone())).unwrap();
        let mut refused =
            |share, rolled: &[u8]| bench.submit((share, rolled.to_vec())).unwrap_err();
        assert_eq!(refused(share, &rolled), "duplicate-share");
        let unknown = SubmitSharesStandard { job_id: 99, ..share };
        assert_eq!(refused(unknown, &rolled), "invalid-job-id");
        let early = SubmitSharesStandard { ntime: CURTIME - 9999, ..share };
        assert_eq!(refused(early, &rolled), "invalid-share");
        let odd = SubmitSharesStandard { version: share.version ^ 0x4000_0000, ..share };
        assert_eq!(refused(odd, &rolled), "invalid-non-rollable-version-bit");
        if !bench.peer.is_standard(channel) {
            assert_eq!(bench.submit((share, vec![0; 7])).unwrap_err(), "bad-extranonce-size");
        }
        let stranger = SubmitSharesStandard { channel_id: 4242, ..share };
        bench.say(&stranger).unwrap();
        bench.listen();
        assert_eq!(bench.peer.refusal().unwrap(), "invalid-channel-id");
    }
    assert_eq!(bench.rejected(Reject::Duplicate), 2);
    assert_eq!(bench.rejected(Reject::UnknownJob), 2);
}

#[test]
fn shares_on_an_old_tip_are_stale() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.extended();
    let late = bench.peer.mine(channel);
    bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
    assert_eq!(bench.submit(late).unwrap_err(), "stale-share");
    assert_eq!(bench.rejected(Reject::StalePrevblk), 1);
}

#[test]
fn accepted_shares_of_a_read_are_answered_together_and_refusals_in_their_place() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.standard();
    for nonce_start in [0, 1000, 2000] {
        let (share, _) = bench.peer.mine_from(channel, nonce_start);
        bench.say(&share).unwrap();
    }
    let (share, _) = bench.peer.mine_from(channel, 0);
    bench.say(&share).unwrap(); // Again: a duplicate.
    let (share, _) = bench.peer.mine_from(channel, 5000);
    bench.say(&share).unwrap();
    let heard = bench.listen();
    assert_eq!(heard, ["SubmitSharesSuccess", "SubmitSharesError", "SubmitSharesSuccess"]);
    assert_eq!(bench.peer.accepted(), 4);
}

#[test]
fn the_sum_of_shares_is_not_lost_to_rounding() {
    let mut bench = Sv2SessionHarness::solo();
    let quarter = Target::from_difficulty(Difficulty::new(1e-8).unwrap());
    let channel = bench.open(ChannelKind::Standard, 0.0, quarter).unwrap();
    for at in 0..8 {
        let found = bench.peer.mine_from(channel, at << 20);
        bench.submit(found).unwrap();
    }
    assert_eq!((bench.peer.accepted(), bench.peer.sum()), (8, 0));
    assert!(bench.effects.tally.difficulty() > 7.9e-8);
}

#[test]
fn closing_ends_a_channel_or_a_whole_group() {
    let mut bench = Sv2SessionHarness::solo();
    let (one, two, three) = (bench.extended(), bench.extended(), bench.standard());
    let reason_code = Str255::default();
    let (share, rolled) = bench.peer.mine(one);
    bench.say(&CloseChannel { channel_id: one, reason_code }).unwrap();
    assert_eq!(bench.submit((share, rolled)).unwrap_err(), "invalid-channel-id");
    bench.peer.forget(one);
    bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
    bench.mine(two).unwrap();
    let group = bench.peer.group(two);
    bench.say(&CloseChannel { channel_id: group, reason_code }).unwrap();
    bench.peer.forget(two);
    bench.publish(3, BuildJob::SubsidyOnly, Announce::Now);
    bench.mine(three).unwrap();
    bench.say(&CloseChannel { channel_id: three, reason_code }).unwrap();
    assert!(bench.session.channels.is_empty());
    assert_eq!(bench.session.origin.roster.miners().len(), 0);
}

/// A proxy does not open a channel before it has a miner.
#[test]
fn a_connection_without_channels_has_the_time_of_a_miner_without_shares() {
    let mut bench = Sv2SessionHarness::solo();
    let idle = |bench: &mut Sv2SessionHarness, seconds| {
        bench.later(seconds);
        let Sv2SessionHarness { session, feed, now, out, .. } = bench;
        session.on_deadline(&feed.work, *now, out)
    };
    idle(&mut bench, 7199).unwrap();
    let channel = bench.extended();
    bench.mine(channel).unwrap();
    bench.say(&CloseChannel { channel_id: channel, reason_code: Str255::default() }).unwrap();
    idle(&mut bench, 7199).unwrap();
    assert!(matches!(idle(&mut bench, 1), Err(Closing::Idle(_))));

    let mut forever = Config { idle_timeout: Duration::ZERO, ..config() };
    let mut bench = Sv2SessionHarness::with(forever.clone(), HARD, &solo());
    bench.setup(0, "test");
    for _ in 0..3 {
        idle(&mut bench, 100_000).unwrap();
        assert!(bench.session.deadline() > bench.now, "the deadline does not stand still");
    }

    forever.login_timeout = Duration::from_secs(15);
    let mut bench = Sv2SessionHarness::with(forever, HARD, &solo());
    idle(&mut bench, 14).unwrap();
    assert!(matches!(idle(&mut bench, 1), Err(Closing::LoginTimeout(_))), "it never said anything");
}

#[test]
fn an_update_to_a_smaller_target_is_answered_with_a_job_that_has_it() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.extended();
    let wanted = Target::from_difficulty(Difficulty::new(3e-8).unwrap());
    bench
        .say(&UpdateChannel { channel_id: channel, nominal_hash_rate: 0.0, maximum_target: wanted })
        .unwrap();
    let heard = bench.listen();
    assert_eq!(heard, ["SetTarget", "NewExtendedMiningJob"]);
    assert!(bench.peer.target(channel) <= wanted);
    let share = bench.mine(channel).unwrap();
    assert!(share.difficulty >= 3e-8 * 0.999 && share.quickdiff);
    let bad = UpdateChannel { channel_id: 77, nominal_hash_rate: 0.0, maximum_target: wanted };
    bench.say(&bad).unwrap();
    assert_eq!(bench.listen(), ["UpdateChannelError"]);
}

#[test]
fn extensions_are_agreed_on_and_name_workers() {
    let mut bench = Sv2SessionHarness::solo();
    let ask = |ids: &[u16]| {
        let mut frame = Vec::new();
        RequestExtensions { request_id: 3, requested_extensions: Seq64K::new(ids).unwrap() }
            .append(&mut frame);
        frame
    };
    let refused = ask(&[5, 6]);
    let (header, payload) = refused.split_first_chunk::<HEADER_LEN>().unwrap();
    let message =
        ClientMessage::decode(Header::decode(*header), payload, Extensions::default()).unwrap();
    let work = bench.feed.work.clone();
    let Sv2SessionHarness { session, out, effects, now, .. } = &mut bench;
    session.on_message(&message, &work, *now, out, effects).unwrap();
    assert_eq!(bench.listen(), ["RequestExtensionsError"]);
    bench
        .say(&RequestExtensions {
            request_id: 3,
            requested_extensions: Seq64K::new(&[2, 9]).unwrap(),
        })
        .unwrap();
    assert_eq!(bench.listen(), ["RequestExtensionsSuccess"]);
    let channel = bench.extended();
    let (share, rolled) = bench.peer.mine(channel);
    let worker = WorkerName::new("rig7");
    let extranonce = Bytes32::new(&rolled).unwrap();
    bench.say(&SubmitSharesExtended { share, extranonce, worker }).unwrap();
    bench.listen();
    assert_eq!(bench.effects.shares.pop().unwrap().username, Username("bc1qme.rig7".into()));
    assert_eq!(bench.effects.tally.nameless, 0);

    // Not text, too long, or cut short: the work is as good as with a name.
    let too_long = [&[2, 0, 1, 33, 0][..], &[b'x'; 33]].concat();
    for (name, nameless) in
        [(&b"\x02\x00\x01\x01\x00\xff"[..], 1), (&too_long, 2), (b"\x02\x00\x01", 3)]
    {
        let (share, rolled) = bench.peer.mine(channel);
        let extranonce = Bytes32::new(&rolled).unwrap();
        let mut frame = Vec::new();
        SubmitSharesExtended { share, extranonce, worker: None }.append(&mut frame);
        frame.extend_from_slice(name);
        bench.say_frame(&frame).unwrap();
        assert_eq!(bench.listen(), ["SubmitSharesSuccess"]);
        assert_eq!(bench.effects.shares.pop().unwrap().username, Username("bc1qme.one".into()));
        assert_eq!(bench.effects.tally.nameless, nameless);
    }
}

#[test]
fn custom_jobs_are_refused_by_name() {
    let mut bench = Sv2SessionHarness::solo();
    let refused = ClientMessage::Unknown { extension: 7, msg_type: 9 };
    let work = bench.feed.work.clone();
    let Sv2SessionHarness { session, out, effects, now, .. } = &mut bench;
    session.on_message(&refused, &work, *now, out, effects).unwrap();
    assert!(bench.listen().is_empty(), "what is unknown is ignored");
}

#[test]
fn closed_admission_ends_the_session_and_a_stop_asks_to_reconnect() {
    let mut bench = Sv2SessionHarness::solo();
    bench.standard();
    bench.session.on_stop(&mut bench.out);
    assert_eq!(bench.listen(), ["Reconnect"]);
    bench.feed.work.admission = Admission::Closed("no node".into());
    let Sv2SessionHarness { session, feed, now, out, .. } = &mut bench;
    assert_eq!(session.on_work(&feed.work, *now, out), Err(Closing::SentAway("no node".into())));
}

#[test]
fn channels_are_limited_and_listed() {
    let mut bench = Sv2SessionHarness::solo();
    for _ in 0..2000 {
        bench.standard();
    }
    assert_eq!(bench.session.origin.roster.miners().len(), 2000);
    let refused = bench.open(ChannelKind::Extended, 0.0, Target::MAX).unwrap_err();
    assert_eq!(refused, "channel-capacity-exhausted");
}

#[test]
fn one_connection_has_only_so_many_channels_and_says_so() {
    let mut bench = Sv2SessionHarness::solo();
    let counters = Arc::<Counters>::default();
    let full = || counters.view().refused[Refused::FullForConnection as usize];
    let (places, own) = (within(CHANNELS_MAX + 10), [9, 9, 9, 9]);
    bench.session.origin = Origin::standalone_within(places, &counters, own, bench.now);
    for _ in 0..CHANNELS_MAX {
        bench.standard();
    }
    assert_eq!(full(), 0);
    let refused = bench.open(ChannelKind::Standard, 0.0, Target::MAX).unwrap_err();
    assert_eq!(refused, "channel-capacity-exhausted");
    assert_eq!(full(), 1);
}

#[test]
fn frames_to_a_bitaxe_stay_under_2048_bytes() {
    // ESP-Miner accepts no more than 20 branches.
    let templates = [template(2, HARD, 0), template(3, HARD, (1 << 20) - 1)];
    assert_eq!(templates[1].merkle_branches.len(), 20);
    for (vendor, fits) in [("bitaxe", true), ("xminer-1.0", false)] {
        let mut bench = Sv2SessionHarness::with(config(), HARD, &paid_by_a_pool(&templates[1]));
        bench.setup(0, vendor);
        bench.extended();
        for template in &templates {
            let payout = Arc::clone(&bench.payout);
            bench.feed.publish(BuildJob::Classes, template, &payout, Announce::Now);
            bench.session.on_work(&bench.feed.work, bench.now, &mut bench.out).unwrap();
            bench.listen();
        }
        let longest = bench.peer.longest_payload();
        assert_eq!(longest < 2048, fits, "{vendor}: {longest}");
    }
}

/// With more splits than any class has room for.
fn paid_by_a_pool(template: &Template) -> Arc<Payout> {
    use crate::work::{Coinbaser, CoinbaserRequest, PayoutOutput};
    let mut payout = Payout::clone(&pooled(0));
    let outputs = (0..600u16)
        .map(|at| {
            let mut script = vec![0x00, 0x14];
            script.extend_from_slice(&at.to_be_bytes());
            script.extend_from_slice(&[7; 18]);
            PayoutOutput { value: 1000, script: script.into() }
        })
        .collect();
    let request = CoinbaserRequest::of(template);
    if let Some(terms) = &mut payout.pooled {
        terms.coinbaser = Some(Arc::new(Coinbaser { id: 1, request, outputs }));
    }
    Arc::new(payout)
}

#[test]
fn own_rules_choose_the_class_of_an_extended_channel() {
    let mut config = config();
    let rule = ClassRule::within("^acme/", 500, Difficulty::new(1e-6));
    config.classes = Classes::new(true, vec![rule]);
    let mut bench = Sv2SessionHarness::with(config, HARD, &solo());
    bench.setup(0, "acme");
    let channel = bench.extended();
    assert!(bench.peer.target(channel).difficulty() >= 0.99e-6);
    assert_eq!(bench.session.channels[0].class, CoinbaseClass::Small);
}

#[test]
fn pooled_channels_of_different_difficulty_have_their_own_groups() {
    let mut bench = Sv2SessionHarness::pooled();
    let hard = Target::from_difficulty(Difficulty::pow2(4));
    let (easy, other) = (bench.extended(), bench.open(ChannelKind::Extended, 0.0, hard).unwrap());
    assert_ne!(bench.peer.group(easy), bench.peer.group(other));
    let third = bench.extended();
    assert_eq!(bench.peer.group(easy), bench.peer.group(third));
    // One moves over: the client is then told who is in the group.
    bench
        .say(&UpdateChannel { channel_id: third, nominal_hash_rate: 0.0, maximum_target: hard })
        .unwrap();
    bench.listen();
    assert_eq!(bench.peer.group(third), bench.peer.group(other));
    bench.publish(2, BuildJob::SubsidyOnly, Announce::Now);
    assert!(bench.heard.iter().all(|name| *name == "SetNewPrevHash"), "{:?}", bench.heard);
    bench.mine(easy).unwrap();
}

#[test]
fn a_miner_that_is_much_too_fast_gets_a_harder_target_with_a_job_at_once() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut bench = Sv2SessionHarness::pooled();
        let channel = bench.open(kind, 0.0, Target::MAX).unwrap();
        let before = bench.peer.target(channel);
        for _ in 0..8 {
            bench.mine(channel).unwrap();
        }
        assert!(bench.heard.contains(&"SetTarget"), "{:?}", bench.heard);
        assert!(bench.peer.target(channel) < before);
        let share = bench.mine(channel).unwrap();
        assert_eq!(f64::from(share.target_byte), share.difficulty.log2().floor().max(0.0));
    }
}

#[path = "firmware_tests.rs"]
mod firmware;

#[path = "verdict_tests.rs"]
mod verdicts;

/// What may happen to a connection.
#[derive(Clone, Debug)]
enum Event {
    Open(bool, u8),
    Closing(u8),
    Update(u8, u8),
    Mine(u8, u8),
    Tip(bool),
    Refresh(bool),
    Pass(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (any::<bool>(), 0..4u8).prop_map(|(kind, hard)| Event::Open(kind, hard)),
        1 => any::<u8>().prop_map(Event::Closing),
        1 => (any::<u8>(), 0..4u8).prop_map(|(at, hard)| Event::Update(at, hard)),
        6 => (any::<u8>(), 1..20u8).prop_map(|(at, count)| Event::Mine(at, count)),
        2 => any::<bool>().prop_map(Event::Tip),
        2 => any::<bool>().prop_map(Event::Refresh),
        2 => (0..60u8).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A client that holds the server to the specification, and to what real clients demand, finds
    /// every job usable and every share accepted, whatever happens, in any order.
    #[test]
    fn every_share_of_every_job_is_accepted(
        is_pooled: bool,
        has_screen: bool,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut bench = Sv2SessionHarness::with(config(), HARD, &if is_pooled { pooled(0) } else { solo() });
        bench.setup(0, if has_screen { "bitaxe" } else { "test" });
        let mut tip_at = 1;
        let easy = |hard: u8| Target::from_difficulty(Difficulty::pow2(-30 + i32::from(hard)));
        for event in events {
            let pick = |at: u8, bench: &Sv2SessionHarness| {
                let ids = bench.peer.channels();
                (!ids.is_empty()).then(|| ids[usize::from(at) % ids.len()])
            };
            match event {
                Event::Open(standard, hard) => {
                    let kind = if standard { ChannelKind::Standard } else { ChannelKind::Extended };
                    bench.open(kind, 0.0, easy(hard)).unwrap();
                }
                Event::Closing(at) => if let Some(channel_id) = pick(at, &bench) {
                    let reason_code = Str255::default();
                    bench.say(&CloseChannel { channel_id, reason_code }).unwrap();
                    bench.peer.forget(channel_id);
                },
                Event::Update(at, hard) => if let Some(channel_id) = pick(at, &bench) {
                    bench.say(&UpdateChannel {
                        channel_id,
                        nominal_hash_rate: 0.0,
                        maximum_target: easy(hard),
                    }).unwrap();
                    bench.listen();
                    prop_assert!(bench.peer.target(channel_id) <= easy(hard));
                },
                Event::Mine(at, count) => for _ in 0..count {
                    if let Some(channel) = pick(at, &bench) {
                        // At about the target rate, so that the difficulty stays low.
                        bench.later(5);
                        bench.tick();
                        bench.refresh(tip_at);
                        let mined = bench.mine(channel);
                        prop_assert!(mined.is_ok(), "{:?}", mined);
                    }
                },
                Event::Tip(header_first) => {
                    tip_at += 1;
                    if header_first {
                        bench.publish(tip_at, BuildJob::SubsidyOnly, Announce::Now);
                    }
                    let what = if is_pooled { BuildJob::Blank } else { BuildJob::Classes };
                    bench.publish(tip_at, what, Announce::Now);
                }
                Event::Refresh(paced) => {
                    let announce = if paced {
                        Announce::Paced(Duration::from_secs(40))
                    } else {
                        Announce::Now
                    };
                    bench.publish(tip_at, BuildJob::Classes, announce);
                }
                Event::Pass(seconds) => {
                    bench.later(seconds.into());
                    bench.tick();
                    bench.refresh(tip_at);
                }
            }
            for channel in bench.peer.channels() {
                prop_assert_eq!(bench.peer.tip(channel), *bench.feed.work.tip());
            }
        }
    }
}

#[test]
fn no_channel_is_asked_for_more_than_a_block_takes() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut bench = Sv2SessionHarness::with(Config::with_address("bc1qnobody"), HARD, &solo());
        bench.setup(0, "test");
        let one = Target::from_difficulty(Difficulty::ONE);
        let channel = bench.open(kind, 1e15, Target::MAX).unwrap();
        assert_eq!(bench.peer.target(channel), one);
        bench.feed.publish(BuildJob::Classes, &template(2, 0x1b00_ffff, 5), &solo(), Announce::Now);
        bench.session.on_work(&bench.feed.work, bench.now, &mut bench.out).unwrap();
        bench.listen();
        assert!(bench.peer.target(channel) < one, "a harder tip takes the floor again");
        bench.publish(3, BuildJob::Classes, Announce::Now);
        assert_eq!(bench.peer.target(channel), one);
    }
}

/// Proxies repeat the same hashrate once a minute.
#[test]
fn a_repeated_update_changes_nothing() {
    let mut bench = Sv2SessionHarness::solo();
    let channel = bench.extended();
    let update = |hashrate| UpdateChannel {
        channel_id: channel,
        nominal_hash_rate: hashrate,
        maximum_target: Target::MAX,
    };
    bench.say(&update(100.0)).unwrap();
    bench.listen();
    let asked = bench.session.channels[0].vardiff.difficulty();
    for _ in 0..12 {
        bench.later(10);
        bench.tick();
        bench.say(&update(100.0)).unwrap();
        bench.listen();
    }
    let eased = bench.session.channels[0].vardiff.difficulty();
    assert!(eased < asked, "it has been silent for two minutes: {eased} of {asked}");
    bench.say(&update(200.0)).unwrap();
    assert!(bench.session.channels[0].vardiff.difficulty() > asked, "a different one counts");
}

/// The 128 bytes that open a channel bring back 16 kB: allowed as often as a login.
#[test]
fn endless_opening_and_closing_of_channels_is_refused_by_name() {
    let mut bench = Sv2SessionHarness::solo();
    let rules = LimitRules { logins_per_minute: 10, ..LimitRules::default() };
    bench.session.origin.roster.limiter().set_rules(rules, bench.now);
    bench.session.origin.peer = "203.0.113.7:5".parse().unwrap();
    for _ in 0..10 {
        let channel_id = bench.extended();
        bench.say(&CloseChannel { channel_id, reason_code: Str255::default() }).unwrap();
    }
    for _ in 0..1000 {
        let refused = bench.open(ChannelKind::Extended, 0.0, Target::MAX);
        assert_eq!(refused, Err("too-many-logins".into()));
        assert_eq!(bench.heard, ["OpenMiningChannelError"]);
    }
    bench.later(6);
    let channel = bench.extended();
    bench.session.on_limit(&mut bench.out);
    assert_eq!(bench.listen(), ["CloseChannel"], "{channel}");
}

/// Places are short, and a channel without a share gives way: the others of its connection stay,
/// and its shares in flight are late, not bad.
#[test]
fn a_channel_whose_place_is_needed_is_closed_alone() {
    let mut bench = Sv2SessionHarness::solo();
    let (gate, eviction) = bench.with_places_for(2);
    let [first, second, third] = [(); 3].map(|()| bench.extended());
    let late = bench.peer.mine(second);
    bench.mine(first).unwrap();

    let _place = come_for_a_place(&gate, &bench);
    assert!(eviction.take_channels(true) && !eviction.is_requested());
    bench.session.on_eviction(bench.now, &mut bench.out);
    assert_eq!(bench.listen(), ["CloseChannel"], "{second}");
    let left: Vec<_> = bench.session.channels.iter().map(|channel| channel.id).collect();
    assert_eq!(left, [first, third]);
    bench.session.on_eviction(bench.now, &mut bench.out);
    assert_eq!(bench.listen(), [""; 0]);

    assert!(!eviction.is_requested());
    assert_eq!(bench.submit(late).unwrap_err(), "invalid-channel-id");
    assert_eq!((bench.rejected(Reject::StaleWork), bench.rejected(Reject::NotSubscribed)), (1, 0));
}

/// A translator drops a closed channel silently and leaves its miner without work; when the
/// connection ends, it reconnects with all of them.
#[test]
fn a_connection_on_which_nobody_has_had_a_share_is_closed_whole() {
    let mut bench = Sv2SessionHarness::solo();
    let (gate, eviction) = bench.with_places_for(2);
    let _ = [(); 3].map(|()| bench.extended());
    let _place = come_for_a_place(&gate, &bench);
    assert!(eviction.take_channels(true) && !eviction.is_requested());
    bench.session.on_eviction(bench.now, &mut bench.out);
    assert!(eviction.is_requested());
    assert_eq!(bench.listen(), [""; 0]);
}

fn come_for_a_place(gate: &Arc<ConnectionGate>, bench: &Sv2SessionHarness) -> gate::MinerPlace {
    let newcomer = Arc::new(Eviction::of_channel(&Arc::default()));
    let from = "198.51.100.1".parse().unwrap();
    gate.enter(from, gate::PlaceKind::Channel, &newcomer, bench.now).unwrap()
}
