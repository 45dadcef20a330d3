//! With a server's frames made by hand; shares are checked with the `bitcoin` crate.

use bitcoin::{block::Header as BlockHeader, consensus::deserialize, hashes::Hash as _};

use super::*;
use crate::{
    devnet::miner::{in_flight::LATE_WAIT, scan::Cursor},
    sv2::codec::{
        Bytes32, Bytes64K, ClientMessage, CloseChannel, Extensions, HEADER_LEN, Header, Message,
        NewExtendedMiningJob, NewMiningJob, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, OpenStandardMiningChannelSuccess, Reconnect, Seq64K, Seq255,
        SetExtranoncePrefix, SetGroupChannel, SetNewPrevHash, SetTarget, SetupConnectionError,
        SetupConnectionSuccess, Str255, SubmitSharesStandard,
    },
    work::{Hash256, VERSION_ROLLING_MASK},
};

const CHANNEL: u32 = 7;
const GROUP: u32 = 1;
const PREFIX: [u8; 4] = [1, 2, 3, 4];
const NTIME: u32 = 1_700_000_000;
const VERSION_BITS: u32 = 0x2000_0000;
const NBITS: u32 = 0x1d00_ffff;
const COINB1: &[u8] = b"coinbase prefix";
const COINB2: &[u8] = b"coinbase suffix";
const BRANCH: Hash256 = Hash256([8; 32]);
const ROOT: Hash256 = Hash256([6; 32]);
const TIP: Hash256 = Hash256([5; 32]);

/// Met by one hash in 256, or in 512, ...
fn target(halvings: u8) -> Target {
    let mut bytes = [0xff; 32];
    (bytes[31], bytes[30]) = (0, 0xff >> halvings);
    Target::from_le_bytes(&bytes)
}

fn options(protocol: MinerProtocol) -> MinerOptions {
    MinerOptions { protocol, connect: "pool.example:3333".into(), ..MinerOptions::default() }
}

struct Bench {
    session: Sv2MinerSession,
    stats: MinerStats,
    now: Instant,
    /// What the session says, and what was heard of it.
    out: Vec<u8>,
    heard: usize,
    cursor: Cursor,
    /// Of the work that the cursor is in.
    serial: u64,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new(options: &MinerOptions) -> Self {
        let (now, mut out) = (Instant::now(), Vec::new());
        let session = Sv2MinerSession::open(options, 0, now, &mut out);
        let (stats, cursor) = (MinerStats::default(), Cursor::default());
        Self { session, stats, now, out, heard: 0, cursor, serial: 0 }
    }

    /// With an open channel.
    fn open(options: &MinerOptions) -> Self {
        let mut bench = Self::new(options);
        bench.next();
        bench.say(&SetupConnectionSuccess { used_version: 2, flags: 0 });
        bench.next();
        match options.protocol {
            MinerProtocol::Sv2Extended => bench.say(&extended(8)),
            _ => bench.say(&standard()),
        }
        bench
    }

    fn try_say<'a>(&mut self, message: &impl Message<'a>) -> Result<(), Sv2ClientClose> {
        let mut frame = Vec::new();
        message.append(&mut frame);
        let (header, payload) = frame.split_first_chunk().unwrap();
        let header = Header::decode(*header);
        let message = ServerMessage::decode(header, payload, Sv2Client::EXTENSIONS).unwrap();
        self.session.on_message(&message, self.now, &mut self.stats, &mut self.out)
    }

    #[track_caller]
    fn say<'a>(&mut self, message: &impl Message<'a>) {
        self.try_say(message).unwrap();
    }

    #[track_caller]
    fn refuses<'a>(&mut self, message: &impl Message<'a>, expected: &str) {
        assert_eq!(self.try_say(message).unwrap_err().to_string(), expected);
    }

    /// The next frame of the session.
    #[track_caller]
    fn next(&mut self) -> ClientMessage<'_> {
        let (header, rest) = self.out[self.heard..].split_first_chunk().expect("it said nothing");
        let header = Header::decode(*header);
        self.heard += HEADER_LEN + header.len as usize;
        let payload = &rest[..header.len as usize];
        ClientMessage::decode(header, payload, Extensions::default()).unwrap()
    }

    /// Solves a share of the present work, and sends it.
    fn solve(&mut self) -> Found {
        let (work, mut found) = (self.session.work().unwrap(), Vec::new());
        if work.serial != self.serial {
            self.serial = work.serial;
            self.cursor.restart();
        }
        while found.is_empty() {
            self.cursor.scan(work, 4096, &mut found);
        }
        found.swap_remove(0)
    }

    fn submit(&mut self, found: &Found) {
        self.session.on_found(found, self.now, &mut self.stats, &mut self.out);
    }

    /// Sends a share, of which nothing is left to hear.
    fn share(&mut self) -> SubmitSharesStandard {
        let found = self.solve();
        self.submit(&found);
        match self.next() {
            ClientMessage::SubmitSharesStandard(share) => share,
            ClientMessage::SubmitSharesExtended(extended) => extended.share,
            other => panic!("{other:?}"),
        }
    }

    fn target(&self) -> Target {
        self.session.work().unwrap().target
    }
}

fn standard() -> OpenStandardMiningChannelSuccess<'static> {
    OpenStandardMiningChannelSuccess {
        request_id: 1,
        channel_id: CHANNEL,
        target: target(0),
        extranonce_prefix: Bytes32::new(&PREFIX).unwrap(),
        group_channel_id: GROUP,
    }
}

fn extended(extranonce_size: u16) -> OpenExtendedMiningChannelSuccess<'static> {
    OpenExtendedMiningChannelSuccess {
        request_id: 1,
        channel_id: CHANNEL,
        target: target(0),
        extranonce_size,
        extranonce_prefix: Bytes32::new(&PREFIX).unwrap(),
        group_channel_id: GROUP,
    }
}

fn job(job_id: u32, min_ntime: Option<u32>) -> NewMiningJob {
    let (channel_id, version) = (CHANNEL, VERSION_BITS);
    NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root: ROOT }
}

fn extended_job(
    channel_id: u32,
    job_id: u32,
    min_ntime: Option<u32>,
) -> NewExtendedMiningJob<'static> {
    NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime,
        version: VERSION_BITS,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(&[BRANCH]).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(COINB1).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(COINB2).unwrap(),
    }
}

fn prevhash(channel_id: u32, job_id: u32) -> SetNewPrevHash {
    SetNewPrevHash { channel_id, job_id, prev_hash: TIP, min_ntime: NTIME, nbits: NBITS }
}

fn accepted(last_sequence_number: u32, new_submits_accepted_count: u32) -> SubmitSharesSuccess {
    SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number,
        new_submits_accepted_count,
        new_shares_sum: 1,
    }
}

fn error(sequence_number: u32, error_code: Str255<'_>) -> SubmitSharesError<'_> {
    SubmitSharesError { channel_id: CHANNEL, sequence_number, error_code }
}

/// The root that a server computes for an extended job.
fn root(prefix: &[u8], extranonce: &[u8]) -> Hash256 {
    let coinbase = [COINB1, prefix, extranonce, COINB2].concat();
    Hash256::sha256d(&[Hash256::sha256d(&coinbase).0, BRANCH.0].concat())
}

#[track_caller]
fn check(share: &SubmitSharesStandard, root: Hash256, target: Target) {
    let mut header = share.version.to_le_bytes().to_vec();
    header.extend(TIP.0);
    header.extend(root.0);
    for field in [share.ntime, NBITS, share.nonce] {
        header.extend(field.to_le_bytes());
    }
    let header: BlockHeader = deserialize(&header).unwrap();
    assert!(target.is_met_by(&Hash256(header.block_hash().to_byte_array())), "high hash");
    assert_eq!(share.version & !VERSION_ROLLING_MASK, VERSION_BITS);
}

#[test]
fn a_standard_miner_sets_up_opens_and_mines() {
    let options = MinerOptions {
        username: "alice.rig".into(),
        user_agent: "bitaxe/v2.15".into(),
        hashrate_max: Some(1e6),
        suggest_difficulty: Some(1.0),
        ..options(MinerProtocol::Sv2Standard)
    };
    let mut bench = Bench::new(&options);
    let ClientMessage::SetupConnection(setup) = bench.next() else { panic!() };
    assert_eq!((setup.protocol, setup.min_version, setup.max_version), (0, 2, 2));
    assert_eq!(setup.flags, setup_flags::REQUIRES_STANDARD_JOBS);
    assert_eq!((setup.endpoint_host.as_str(), setup.endpoint_port), (Some("pool.example"), 3333));
    assert_eq!((setup.vendor.as_str(), setup.firmware.as_str()), (Some("bitaxe"), Some("v2.15")));
    bench.say(&SetupConnectionSuccess { used_version: 2, flags: 0 });
    let ClientMessage::OpenStandardMiningChannel(open) = bench.next() else { panic!() };
    assert_eq!((open.user_identity.as_str(), open.nominal_hash_rate), (Some("alice.rig"), 1e6));
    assert_eq!(open.max_target, Target::DIFFICULTY_1);
    bench.say(&standard());
    bench.say(&job(3, None));
    assert!(bench.session.work().is_none(), "a future job waits");
    bench.say(&prevhash(CHANNEL, 3));
    for number in 0..3 {
        let share = bench.share();
        assert_eq!(
            (share.channel_id, share.sequence_number, share.job_id, share.ntime),
            (CHANNEL, number, 3, NTIME)
        );
        check(&share, ROOT, target(0));
    }
    bench.say(&accepted(1, 2));
    assert!(!bench.session.is_settled());
    bench.say(&accepted(2, 1));
    assert!(bench.session.is_settled());
    let MinerStats { submitted, accepted, jobs, clean_jobs, .. } = bench.stats;
    assert_eq!((submitted, accepted, jobs, clean_jobs), (3, 3, 1, 1));
    assert_eq!(bench.stats.difficulty, target(0).difficulty());
}

#[test]
fn an_extended_miner_sets_up_opens_and_rolls_the_extranonce() {
    let mut bench = Bench::new(&options(MinerProtocol::Sv2Extended));
    let ClientMessage::SetupConnection(setup) = bench.next() else { panic!() };
    assert_eq!(setup.flags, setup_flags::REQUIRES_VERSION_ROLLING);
    bench.say(&SetupConnectionSuccess { used_version: 2, flags: 0 });
    let ClientMessage::OpenExtendedMiningChannel(open) = bench.next() else { panic!() };
    assert_eq!((open.min_extranonce_size, open.max_target), (4, Target::MAX));
    // More than the hasher rolls.
    bench.say(&extended(12));
    bench.say(&extended_job(GROUP, 3, None));
    bench.say(&prevhash(GROUP, 3));
    let mut rolled = std::collections::BTreeSet::new();
    let mut versions = std::collections::BTreeSet::new();
    while rolled.len() < 3 || versions.len() < 16 {
        let found = bench.solve();
        bench.submit(&found);
        let ClientMessage::SubmitSharesExtended(share) = bench.next() else { panic!() };
        let extranonce = share.extranonce.get().to_vec();
        assert_eq!((extranonce.len(), &extranonce[..4]), (12, [0; 4].as_slice()));
        let share = share.share;
        check(&share, root(&PREFIX, &extranonce), target(0));
        rolled.insert(extranonce);
        versions.insert(share.version);
    }
}

#[test]
fn work_on_the_present_block_begins_at_once() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Standard));
    bench.say(&job(3, None));
    bench.say(&prevhash(CHANNEL, 3));
    let old = bench.solve();
    let other = NewMiningJob { merkle_root: Hash256([9; 32]), ..job(4, Some(NTIME + 30)) };
    bench.say(&other);
    let share = bench.share();
    assert_eq!((share.job_id, share.ntime), (4, NTIME + 30));
    check(&share, other.merkle_root, target(0));
    // A share of the job before is as good as ever.
    bench.submit(&old);
    let ClientMessage::SubmitSharesStandard(share) = bench.next() else { panic!() };
    assert_eq!(share.job_id, 3);
}

#[test]
fn a_new_block_makes_all_older_work_void() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Standard));
    bench.say(&job(3, None));
    bench.say(&prevhash(CHANNEL, 3));
    let old = bench.solve();
    bench.share();
    bench.say(&job(5, None));
    bench.say(&job(4, None));
    bench.say(&SetNewPrevHash { prev_hash: Hash256([4; 32]), ..prevhash(CHANNEL, 4) });
    bench.submit(&old);
    assert_eq!(bench.stats.discarded, 1);
    assert_eq!(bench.share().job_id, 4);
    // What was under way is late, and nobody's fault.
    bench.say(&error(0, codes::STALE_SHARE));
    assert_eq!((bench.stats.late, bench.stats.rejected), (1, 0));
    // The other future job went with the block.
    let gone = "the server broke the protocol: SetNewPrevHash for job 5, which was not announced \
                as a future job";
    bench.refuses(&prevhash(CHANNEL, 5), gone);
}

#[test]
fn a_stale_share_that_no_block_explains_is_rejected() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Standard));
    bench.say(&job(3, None));
    bench.say(&prevhash(CHANNEL, 3));
    bench.share();
    bench.share();
    bench.say(&error(0, codes::STALE_SHARE));
    bench.say(&error(1, codes::DUPLICATE_SHARE));
    assert_eq!((bench.stats.late, bench.stats.rejected), (0, 1));
    bench.now = bench.session.deadline().unwrap();
    bench.session.on_deadline(bench.now, &mut bench.stats).unwrap();
    assert_eq!((bench.stats.late, bench.stats.rejected), (0, 2));
    assert_eq!(bench.stats.rejects.keys().collect::<Vec<_>>(), ["duplicate-share", "stale-share"]);
    assert!(bench.session.deadline().is_none() && LATE_WAIT < ANSWER_TIMEOUT);
}

#[test]
fn a_target_holds_for_the_next_job_and_for_those_that_wait() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Standard));
    bench.say(&job(3, None));
    bench.say(&SetTarget { channel_id: CHANNEL, maximum_target: target(1) });
    bench.say(&prevhash(CHANNEL, 3));
    assert_eq!(bench.target(), target(1));
    bench.say(&SetTarget { channel_id: GROUP, maximum_target: target(2) });
    assert_eq!(bench.target(), target(1), "the running job keeps its target");
    assert_eq!(bench.stats.difficulty, target(2).difficulty());
    bench.say(&job(4, Some(NTIME)));
    assert_eq!(bench.target(), target(2));
}

#[test]
fn an_extranonce_prefix_holds_for_later_jobs() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Extended));
    let prefix = [9; 4];
    bench.say(&extended_job(CHANNEL, 3, None));
    bench.say(&SetExtranoncePrefix {
        channel_id: CHANNEL,
        extranonce_prefix: Bytes32::new(&prefix).unwrap(),
    });
    bench.say(&prevhash(CHANNEL, 3));
    let found = bench.solve();
    bench.submit(&found);
    let ClientMessage::SubmitSharesExtended(share) = bench.next() else { panic!() };
    check(&share.share, root(&PREFIX, share.extranonce.get()), target(0));
    bench.say(&extended_job(CHANNEL, 4, Some(NTIME)));
    let found = bench.solve();
    bench.submit(&found);
    let ClientMessage::SubmitSharesExtended(share) = bench.next() else { panic!() };
    check(&share.share, root(&prefix, share.extranonce.get()), target(0));

    let expected = "the server broke the protocol: an extranonce prefix of 3 bytes after one of 4";
    let extranonce_prefix = Bytes32::new(&prefix[..3]).unwrap();
    bench.refuses(&SetExtranoncePrefix { channel_id: CHANNEL, extranonce_prefix }, expected);
}

#[test]
fn a_channel_follows_its_group() {
    let mut bench = Bench::open(&options(MinerProtocol::Sv2Extended));
    let (ids, others) = ([99, CHANNEL], [99]);
    let moved = |group_channel_id, ids| SetGroupChannel {
        group_channel_id,
        channel_ids: Seq64K::new(ids).unwrap(),
    };
    bench.say(&moved(2, &ids));
    bench.say(&extended_job(2, 3, None));
    bench.say(&prevhash(2, 3));
    assert_eq!(bench.share().job_id, 3);
    bench.refuses(
        &extended_job(GROUP, 4, None),
        "the server broke the protocol: a message for channel 1",
    );
    // Another group's new list is none of ours; our own group's without us puts us out of it.
    bench.say(&moved(3, &others));
    bench.say(&extended_job(2, 4, None));
    bench.say(&moved(2, &others));
    bench.refuses(&prevhash(2, 4), "the server broke the protocol: a message for channel 2");
    bench.say(&prevhash(CHANNEL, 4));
    assert_eq!(bench.share().job_id, 4);
}

#[test]
fn a_standard_channel_can_take_its_groups_extended_jobs() {
    let wanted = options(MinerProtocol::Sv2Standard);
    let mut bench = Bench::open(&MinerOptions { group_jobs: true, ..wanted.clone() });
    bench.say(&extended_job(GROUP, 3, None));
    bench.say(&prevhash(GROUP, 3));
    check(&bench.share(), root(&PREFIX, &[]), target(0));

    let mut bench = Bench::new(&MinerOptions { group_jobs: true, ..wanted.clone() });
    let ClientMessage::SetupConnection(setup) = bench.next() else { panic!() };
    assert_eq!(setup.flags, 0);

    let mut bench = Bench::open(&wanted);
    bench.refuses(
        &extended_job(GROUP, 3, None),
        "the server broke the protocol: an extended job for channel 1",
    );
}

#[test]
fn versions_roll_only_where_all_agree() {
    let rolls = |bench: &mut Bench, allowed| {
        let job =
            NewExtendedMiningJob { version_rolling_allowed: allowed, ..extended_job(7, 3, None) };
        bench.say(&job);
        bench.say(&prevhash(CHANNEL, 3));
        (0..40).any(|_| bench.share().version != VERSION_BITS)
    };
    let wanted = options(MinerProtocol::Sv2Extended);
    assert!(rolls(&mut Bench::open(&wanted), true));
    assert!(!rolls(&mut Bench::open(&wanted), false));
    let unwanted = MinerOptions { version_rolling: false, ..wanted.clone() };
    assert!(!rolls(&mut Bench::open(&unwanted), true));
    let mut bench = Bench::new(&wanted);
    bench.next();
    let flags = setup_flags::REQUIRES_FIXED_VERSION;
    bench.say(&SetupConnectionSuccess { used_version: 2, flags });
    bench.next();
    bench.say(&extended(8));
    assert!(!rolls(&mut bench, true));
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let standard_miner = options(MinerProtocol::Sv2Standard);
    let mut bench = Bench::new(&standard_miner);
    bench.refuses(
        &standard(),
        "the server broke the protocol: it opened a channel before the connection was set up",
    );
    bench.refuses(
        &SetupConnectionSuccess { used_version: 3, flags: 0 },
        "the server broke the protocol: it chose version 3",
    );
    let mut bench = Bench::open(&standard_miner);
    bench.refuses(
        &extended(8),
        "the server broke the protocol: it opened a channel that was not asked for",
    );
    bench.refuses(
        &job(3, Some(NTIME)),
        "the server broke the protocol: job 3 before any SetNewPrevHash",
    );
    bench.say(&job(3, None));
    bench.refuses(&job(3, None), "the server broke the protocol: two jobs with the id 3");
    bench.say(&prevhash(CHANNEL, 3));
    bench.refuses(
        &job(4, Some(NTIME - 1)),
        "the server broke the protocol: job 4 begins before its block's minimum time",
    );
    bench.refuses(
        &NewMiningJob { channel_id: GROUP, ..job(4, None) },
        "the server broke the protocol: a standard job for channel 1",
    );
    bench.share();
    bench.refuses(
        &accepted(0, 2),
        "the server broke the protocol: it accepted 2 shares up to number 0, of which 1 were \
         in flight",
    );
    bench.refuses(
        &error(0, codes::INVALID_SHARE),
        "the server broke the protocol: it rejected share 0, which was not in flight",
    );
    bench.refuses(
        &SubmitSharesSuccess { channel_id: GROUP, ..accepted(0, 1) },
        "the server broke the protocol: it answered to shares of channel 1",
    );

    let mut bench = Bench::new(&options(MinerProtocol::Sv2Extended));
    bench.say(&SetupConnectionSuccess { used_version: 2, flags: 0 });
    bench.refuses(&extended(3), "the server broke the protocol: it gave 3 bytes to roll");
    bench.refuses(&extended(29), "the server broke the protocol: an extranonce of 33 bytes");
    let same = OpenExtendedMiningChannelSuccess { group_channel_id: CHANNEL, ..extended(8) };
    bench.refuses(&same, "the server broke the protocol: channel 7 has its group's id");
}

#[test]
fn refusals_and_farewells_end_the_connection() {
    let wanted = options(MinerProtocol::Sv2Standard);
    let mut bench = Bench::new(&wanted);
    bench.refuses(
        &SetupConnectionError { flags: 1, error_code: codes::UNSUPPORTED_FEATURE_FLAGS },
        "the server refused to set up: unsupported-feature-flags",
    );
    bench.refuses(
        &OpenMiningChannelError { request_id: 1, error_code: codes::UNKNOWN_USER },
        "the server refused to open a channel: unknown-user",
    );
    let mut bench = Bench::open(&wanted);
    bench.refuses(
        &CloseChannel { channel_id: GROUP, reason_code: Str255::new("maintenance").unwrap() },
        "the server closed the channel: maintenance",
    );
    let reconnect = Reconnect { new_host: Str255::new("other").unwrap(), new_port: 0 };
    let Err(Sv2ClientClose::Reconnect { host, port }) = bench.try_say(&reconnect) else { panic!() };
    assert_eq!((host.as_deref(), port), (Some("other"), None));
    let reconnect = Reconnect { new_host: Str255::default(), new_port: 3334 };
    let Err(Sv2ClientClose::Reconnect { host, port }) = bench.try_say(&reconnect) else { panic!() };
    assert_eq!((host, port), (None, Some(3334)));
}

#[test]
fn silence_ends_the_connection() {
    let wanted = options(MinerProtocol::Sv2Standard);
    let mut bench = Bench::new(&wanted);
    let end = bench.session.deadline().unwrap();
    let before = end - Duration::from_millis(1);
    bench.session.on_deadline(before, &mut bench.stats).unwrap();
    let silent = bench.session.on_deadline(end, &mut bench.stats).unwrap_err();
    assert_eq!(silent.to_string(), "the server did not answer within 10s");

    let mut bench = Bench::open(&wanted);
    assert!(bench.session.deadline().is_none());
    bench.say(&job(3, None));
    bench.say(&prevhash(CHANNEL, 3));
    bench.share();
    let end = bench.session.deadline().unwrap();
    let silent = bench.session.on_deadline(end, &mut bench.stats).unwrap_err();
    assert_eq!(silent.to_string(), "the server did not answer within 30s");
    bench.session.on_end(&mut bench.stats);
    assert_eq!(bench.stats.unanswered, 1);
}
