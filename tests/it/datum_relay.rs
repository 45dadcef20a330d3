//! What outlives connections: whom to pay, held shares, and accounts that never lose a share.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::datum_support::{
    Jobs, PRIME_ID, SCRIPT, SECOND, ScriptedPool, TAG, configuration, encoded, output, pool_key,
    share, start, template,
};
use gatewayd::{
    datum::{
        ClientError, Identity, Lost, PoolMemory, PoolState, PoolStats, Relay, RelayOptions,
        UsernameMode, Usernames,
        message::{ShareReason, ShareResponse, ShareStatus, ToGateway, ToPool},
    },
    work::{Job, Payout, PoolTerms, Share},
};
use proptest::prelude::*;

struct Rig {
    relay: Relay,
    pool: Option<ScriptedPool>,
    stats: Arc<PoolStats>,
    jobs: Jobs,
    now: Instant,
    out: Vec<u8>,
}

impl Rig {
    fn new(hold_shares: Duration) -> Self {
        let options = RelayOptions {
            usernames: Usernames::new(UsernameMode::Full, "addr".into(), &[]),
            tag_secondary: b"me".as_slice().into(),
            unique_id: 5,
            own_script: None,
            user_agent: "test".into(),
            timeout: 60 * SECOND,
            hold_shares,
        };
        let stats = Arc::new(PoolStats::default());
        let keys = Identity::from_secrets(&[5; 32], [6; 32]);
        let relay = Relay::new(options, keys, Arc::clone(&stats));
        Self { relay, pool: None, stats, jobs: Jobs::new(), now: start(), out: Vec::new() }
    }

    /// Connected and configured, with one template and the payout for it.
    fn up() -> Self {
        let mut rig = Self::new(120 * SECOND);
        rig.relay.on_template(&template(1, 10_000), rig.now, &mut rig.out).unwrap();
        rig.connect("pool:1");
        rig.configure(TAG);
        rig
    }

    fn connect(&mut self, name: &str) {
        self.out.clear();
        self.relay.connect(&name.into(), pool_key(), [9; 32], self.now, &mut self.out).unwrap();
        let mut pool = ScriptedPool::meet(&self.out);
        self.out.clear();
        let response = pool.response("hello");
        self.pool = Some(pool);
        self.receive(&response).unwrap();
    }

    fn configure(&mut self, tag: &[u8]) {
        let bytes = self.pool.as_mut().unwrap().say(&configuration(&SCRIPT, tag, 0));
        self.receive(&bytes).unwrap();
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.relay.on_bytes(bytes, self.now, &mut self.out)
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let out = std::mem::take(&mut self.out);
        self.pool.as_mut().unwrap().receive(&out)
    }

    /// Nonces of the shares that the pool receives.
    fn sent_shares(&mut self) -> Vec<u32> {
        let nonce = |plain: &Vec<u8>| match ToPool::decode(plain).unwrap() {
            ToPool::Share(share) => Some(share.nonce),
            _ => None,
        };
        self.sent().iter().filter_map(nonce).collect()
    }

    fn drop_connection(&mut self) {
        self.relay.disconnected("it closed the connection", "trying again", self.now);
        self.pool = None;
        self.out.clear();
    }

    fn job(&mut self, tip: u8) -> Arc<Job> {
        let payout = Arc::clone(self.relay.payout().unwrap());
        let job = self.jobs.add(&template(tip, 10_000), &payout);
        self.relay.on_work(&self.jobs.work());
        job
    }

    fn mine(&mut self, shares: Vec<Share>) {
        self.relay.on_shares(shares, self.now, &mut self.out);
    }

    fn answer(&mut self, share: &Share, status: ShareStatus, reason: ShareReason) {
        let bytes = self.pool.as_mut().unwrap().answer(share, status, reason);
        self.receive(&bytes).unwrap();
    }

    fn lost(&self, why: Lost) -> u64 {
        let lost = self.stats.view().lost;
        lost.iter().find(|(reason, _)| *reason == why).map_or(0, |(_, count)| *count)
    }

    /// Checks that no share is lost track of.
    fn check_accounts(&self) {
        let view = self.stats.view();
        let answered = view.accepted + view.rejected_total() + view.unanswered;
        let sum = answered + view.lost_total() + view.held + view.awaiting;
        assert_eq!(view.received, sum, "{view:?}");
    }
}

fn terms(payout: &Payout) -> &PoolTerms {
    payout.pooled.as_ref().unwrap()
}

#[test]
fn a_configuration_makes_a_payout_and_a_coinbaser_completes_it() {
    let mut rig = Rig::up();
    let news = rig.relay.take_news();
    assert!(news.payout && news.status);
    let payout = Arc::clone(rig.relay.payout().unwrap());
    assert_eq!((&payout.script[..], &payout.tag_primary[..]), (&SCRIPT[..], TAG));
    assert_eq!((&payout.tag_secondary[..], payout.unique_id), (&b"me"[..], 5));
    let PoolTerms { prime_id, epoch, settled, .. } = terms(&payout);
    assert_eq!((*prime_id, *epoch, *settled), (PRIME_ID, 1, None));
    assert_eq!(rig.relay.status().state, PoolState::Up);

    assert_eq!(rig.sent().len(), 1, "the template's coinbaser is requested");
    let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 3, &[output(9000, 1)]);
    rig.receive(&bytes).unwrap();
    let payout = rig.relay.payout().unwrap();
    let split = terms(payout).coinbaser.as_ref().unwrap();
    assert_eq!((split.id, Some(split.request)), (3, terms(payout).settled));
}

#[test]
fn a_late_or_refused_coinbaser_settles_and_no_split_for_another_value_is_used() {
    let mut rig = Rig::up();
    let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 3, &[output(9000, 1)]);
    rig.receive(&bytes).unwrap();
    rig.relay.on_template(&template(1, 11_000), rig.now, &mut rig.out).unwrap();
    assert_eq!(terms(rig.relay.payout().unwrap()).settled.unwrap().value, 10_000);
    rig.now += 5 * SECOND;
    rig.relay.on_deadline(rig.now).unwrap();
    let late = rig.relay.payout().unwrap();
    assert_eq!(terms(late).settled.unwrap().value, 11_000);
    assert!(late.split(&template(1, 11_000)).is_none());
    assert_eq!(late.split(&template(1, 10_000)).unwrap().id, 3, "its own value, the same tip");

    rig.relay.on_template(&template(1, 12_000), rig.now, &mut rig.out).unwrap();
    let bytes = rig.pool.as_mut().unwrap().coinbaser(12_000, 4, &[output(12_001, 1)]);
    rig.receive(&bytes).unwrap();
    let refused = rig.relay.payout().unwrap();
    assert_eq!(terms(refused).settled.unwrap().value, 12_000);
    assert!(refused.split(&template(1, 12_000)).is_none());
    assert_eq!(rig.stats.view().coinbasers_refused, 1);
}

#[test]
fn a_template_settles_at_once_while_the_pool_is_away() {
    let mut rig = Rig::up();
    rig.drop_connection();
    assert_eq!(terms(rig.relay.payout().unwrap()).settled.unwrap().value, 10_000);
    rig.relay.on_template(&template(2, 20_000), rig.now, &mut rig.out).unwrap();
    assert_eq!(terms(rig.relay.payout().unwrap()).settled.unwrap().value, 20_000);
    assert!(matches!(rig.relay.status().state, PoolState::Down { .. }));
}

#[test]
fn a_configuration_may_come_again_at_any_time() {
    let mut rig = Rig::up();
    rig.sent();
    rig.configure(b"other");
    let payout = rig.relay.payout().unwrap();
    assert_eq!((&payout.tag_primary[..], terms(payout).epoch), (&b"other"[..], 1));
    assert_eq!(rig.sent().len(), 1, "the split under the new terms is requested");
}

#[test]
fn shares_held_while_the_pool_is_away_are_sent_when_it_returns() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.sent();
    rig.mine(vec![share(&job, 1), share(&job, 2)]);
    assert_eq!(rig.sent_shares(), [1, 2]);
    rig.answer(&share(&job, 1), ShareStatus::Accepted, ShareReason::NONE);
    rig.drop_connection();
    rig.mine(vec![share(&job, 3)]);
    assert_eq!(rig.stats.view().held, 2);
    rig.now += 20 * SECOND;
    rig.connect("pool:1");
    rig.configure(TAG);
    assert_eq!(rig.sent_shares(), [2, 3], "unanswered ones first, with their contexts");
    // The pool had counted the second one; only its answer got lost.
    rig.answer(&share(&job, 2), ShareStatus::Rejected, ShareReason::DUPLICATE);
    rig.answer(&share(&job, 3), ShareStatus::Tentative, ShareReason::NONE);
    let view = rig.stats.view();
    assert_eq!((view.accepted, view.tentative, view.replayed), (3, 1, 1));
    assert_eq!((view.held, view.awaiting, view.lost_total()), (0, 0, 0));
    rig.check_accounts();
}

/// A flood once pushed out an honest miner's shares: of 50 that it saw accepted, one arrived.
#[test]
fn a_flooders_shares_go_first_when_there_is_no_room() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.sent();
    rig.drop_connection();
    let by = |miner, nonce| Share { miner, ..share(&job, nonce) };
    for honest in 0..50 {
        rig.mine(vec![by(1, honest)]);
        let flood = 1000 + honest * 2000;
        rig.mine((flood..flood + 2000).map(|nonce| by(2, nonce)).collect());
    }
    assert!(rig.lost(Lost::Overflow) >= 100_050 - 65_536);
    assert!(rig.stats.view().held <= 65_536);
    rig.check_accounts();
    rig.connect("pool:1");
    rig.configure(TAG);
    let mut sent = rig.sent_shares();
    while rig.stats.view().held > 0 {
        rig.relay.send_held(rig.now, &mut rig.out);
        sent.extend(rig.sent_shares());
    }
    assert_eq!(sent.iter().filter(|nonce| **nonce < 50).count(), 50);
    rig.check_accounts();
}

#[test]
fn held_shares_are_lost_by_reason() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.drop_connection();
    rig.mine(vec![share(&job, 1)]);
    rig.now += 119 * SECOND;
    rig.mine(vec![share(&job, 2)]);
    assert_eq!(rig.relay.deadline(), Some(rig.now + SECOND));
    rig.now += SECOND;
    rig.relay.on_deadline(rig.now).unwrap();
    assert_eq!((rig.lost(Lost::Expired), rig.stats.view().held), (1, 1));

    // Another tag: what was mined with the old one is worthless to the pool.
    rig.connect("pool:1");
    rig.configure(b"other");
    assert_eq!(rig.lost(Lost::TermsChanged), 1);

    // The block was found in the meantime.
    let job = rig.job(1);
    rig.drop_connection();
    rig.mine(vec![share(&job, 3)]);
    rig.job(2);
    rig.connect("pool:1");
    rig.configure(b"other");
    assert_eq!(rig.lost(Lost::Stale), 1);

    rig.drop_connection();
    let job = rig.job(2);
    rig.mine(vec![share(&job, 5)]);
    rig.relay.shut_down();
    assert_eq!(rig.lost(Lost::Shutdown), 1);
    rig.check_accounts();
}

#[test]
fn nothing_is_held_when_the_operator_says_so() {
    let mut rig = Rig::new(Duration::ZERO);
    rig.connect("pool:1");
    rig.configure(TAG);
    let job = rig.job(1);
    rig.mine(vec![share(&job, 1)]);
    rig.drop_connection();
    let block = Share { is_block: true, ..share(&job, 3) };
    rig.mine(vec![share(&job, 2), block]);
    assert_eq!((rig.lost(Lost::Expired), rig.stats.view().held), (2, 1), "but a block is");
    rig.check_accounts();
    // Miners are told at once that nobody accepts their shares, even with a pool that keeps its
    // ids.
    for _ in 0..2 {
        rig.connect("pool:1");
        rig.configure(TAG);
        rig.drop_connection();
        let PoolTerms { series, void_series, .. } = terms(rig.relay.payout().unwrap());
        assert_eq!(series, void_series);
    }
    assert_eq!(rig.relay.status().keeps_prime_id, Some(true));
    rig.check_accounts();
}

#[test]
fn shares_queue_for_a_connected_pool_even_when_nothing_is_held() {
    let mut rig = Rig::new(Duration::ZERO);
    rig.connect("pool:1");
    rig.configure(TAG);
    let job = rig.job(1);
    // More than are sent at once.
    rig.mine((0..16_390).map(|nonce| share(&job, nonce)).collect());
    rig.sent();
    rig.relay.on_deadline(rig.now).unwrap();
    assert_eq!((rig.stats.view().lost_total(), rig.stats.view().held > 0), (0, true));
    rig.relay.send_held(rig.now, &mut rig.out);
    rig.sent();
    rig.drop_connection();
    assert_eq!((rig.lost(Lost::Expired), rig.stats.view().held), (16_390, 0));
    rig.check_accounts();
}

/// Configures with this prime id.
fn configure_as(rig: &mut Rig, prime_id: u32) {
    let ToGateway::Configuration(mut configuration) = configuration(&SCRIPT, TAG, 0) else {
        panic!()
    };
    configuration.prime_id = prime_id;
    let message = ToGateway::Configuration(configuration);
    let bytes = rig.pool.as_mut().unwrap().say(&message);
    rig.receive(&bytes).unwrap();
}

#[test]
fn work_is_void_as_soon_as_a_pool_of_unknown_habits_goes() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.mine(vec![share(&job, 1)]);
    rig.sent();
    rig.drop_connection();
    let PoolTerms { series, void_series, .. } = terms(rig.relay.payout().unwrap());
    assert_eq!((*series, *void_series), (1, 1));
    // It may turn out to keep its ids: accepted shares are held until that is known.
    rig.mine(vec![share(&job, 2)]);
    assert_eq!(rig.stats.view().held, 2);
    rig.connect("pool:1");
    assert_eq!(rig.relay.status().keeps_prime_id, None);
    rig.configure(TAG);
    assert_eq!(rig.sent_shares(), [1, 2], "it does, and nothing is lost");
    assert_eq!(rig.relay.status().keeps_prime_id, Some(true));
    let PoolTerms { series, void_series, .. } = terms(rig.relay.payout().unwrap());
    assert_eq!((*series, *void_series), (2, 1), "miners were given other work meanwhile");
    // From now on, work for it goes on while it is away.
    rig.drop_connection();
    assert_eq!(terms(rig.relay.payout().unwrap()).void_series, 1);
    rig.check_accounts();
}

#[test]
fn shares_of_void_work_can_be_rejected_before_new_work_is_made() {
    let mut rig = Rig::up();
    rig.drop_connection();
    rig.connect("pool:1");
    configure_as(&mut rig, 7);
    assert_eq!(rig.relay.status().keeps_prime_id, Some(false));
    // What miners work on, and what their shares are judged by.
    let job = rig.job(1);
    let given = terms(&job.payout);
    assert!(!given.is_void());
    rig.drop_connection();
    assert!(given.is_void(), "the same job knows it");
    rig.connect("pool:1");
    configure_as(&mut rig, 8);
    assert!(given.is_void(), "and for good");
    assert!(!terms(rig.relay.payout().unwrap()).is_void());
    rig.check_accounts();
}

#[test]
fn nothing_is_held_for_a_pool_that_gives_each_connection_an_id_of_its_own() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.mine(vec![share(&job, 1)]);
    rig.sent();
    rig.drop_connection();
    rig.mine(vec![share(&job, 2)]);
    rig.connect("pool:1");
    configure_as(&mut rig, 1);
    assert_eq!(rig.relay.status().keeps_prime_id, Some(false));
    assert!(rig.relay.take_news().memory);
    let view = rig.stats.view();
    assert_eq!((view.unanswered, rig.lost(Lost::TermsChanged)), (1, 1));
    // Now it is known: what was sent is given up at once, and so is what arrives late.
    let job = rig.job(1);
    rig.sent();
    let block = Share { is_block: true, ..share(&job, 4) };
    rig.mine(vec![share(&job, 3)]);
    rig.sent();
    rig.drop_connection();
    rig.mine(vec![block, share(&job, 5)]);
    let view = rig.stats.view();
    // The last one was accepted before its miner's connection knew, and so was in flight.
    assert_eq!((view.unanswered, view.held, rig.lost(Lost::TermsChanged)), (3, 1, 1));
    rig.connect("pool:1");
    configure_as(&mut rig, 2);
    assert_eq!(rig.sent_shares(), [4], "it is sent a block, whether it accepts it or not");
    rig.check_accounts();
}

#[test]
fn what_was_learnt_about_a_pool_counts_in_the_next_run() {
    let mut rig = Rig::up();
    rig.drop_connection();
    rig.connect("pool:1");
    rig.configure(TAG);
    let text = rig.relay.memory().render();
    let mut rig = Rig::new(120 * SECOND);
    rig.relay.remember(PoolMemory::parse(&text));
    rig.connect("pool:1");
    rig.configure(TAG);
    let job = rig.job(1);
    rig.drop_connection();
    assert!(terms(rig.relay.payout().unwrap()).void_series == 0);
    rig.mine(vec![share(&job, 1)]);
    rig.connect("pool:1");
    rig.configure(TAG);
    assert_eq!(rig.sent_shares(), [1]);
    rig.check_accounts();
}

#[test]
fn answers_that_never_come_are_given_up_after_a_minute() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    for nonce in 0..3000 {
        rig.mine(vec![share(&job, nonce)]);
        rig.sent();
        if nonce % 3 > 0 {
            let rejected = ShareStatus::Rejected;
            let status = if nonce % 3 == 1 { ShareStatus::Accepted } else { rejected };
            // Rejections with 0xFF as target byte, as pools send them.
            let bytes = rig.pool.as_mut().unwrap().say(&ToGateway::ShareResponse(ShareResponse {
                status,
                reason: ShareReason::HIGH_HASH,
                nonce,
                target_byte: if status == rejected { 0xFF } else { 0 },
                slot: 0,
            }));
            rig.receive(&bytes).unwrap();
        }
    }
    let view = rig.stats.view();
    assert_eq!((view.accepted, view.rejected_total(), view.awaiting), (1000, 1000, 1000));
    rig.now += 59 * SECOND;
    let info = rig.pool.as_mut().unwrap().info("still here");
    rig.receive(&info).unwrap();
    rig.relay.on_deadline(rig.now).unwrap();
    assert_eq!(rig.stats.view().awaiting, 1000);
    rig.now += SECOND;
    assert!(rig.relay.deadline().unwrap() <= rig.now);
    let log = logged(|| rig.relay.on_deadline(rig.now).unwrap());
    assert!(log.contains("left 1000 shares unanswered"), "{log}");
    let view = rig.stats.view();
    assert_eq!((view.awaiting, view.unanswered), (0, 1000));
    assert_eq!(view.pools[0].1.unanswered, 1000);
    // One that arrives even later does no harm.
    rig.answer(&share(&job, 0), ShareStatus::Accepted, ShareReason::NONE);
    rig.check_accounts();
}

#[test]
fn a_pool_that_answers_nothing_gets_every_share_and_holds_no_template_in_memory() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    for nonce in 0..100_000 {
        rig.mine(vec![share(&job, nonce)]);
        if nonce % 1000 == 0 {
            rig.sent();
        }
    }
    let view = rig.stats.view();
    assert_eq!((view.held, view.awaiting), (0, 65_536));
    assert_eq!(view.unanswered, 100_000 - 65_536, "the oldest make room");
    rig.check_accounts();
    let (template, job) = (Arc::downgrade(&job.template), drop(job));
    let () = job;
    rig.jobs = Jobs::new();
    // The pool's eight slots are reused for other jobs.
    for tip in 2..11 {
        let job = rig.job(tip);
        rig.mine(vec![share(&job, 1)]);
        rig.sent();
    }
    assert!(template.upgrade().is_none(), "held by what awaits an answer");
    rig.drop_connection();
    rig.check_accounts();
}

#[test]
fn an_unknown_status_is_an_answer() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.mine(vec![share(&job, 1)]);
    rig.sent();
    let log = logged(|| rig.answer(&share(&job, 1), ShareStatus::Unknown(0x77), ShareReason(0)));
    assert!(log.contains("unknown status 0x77"), "{log}");
    let view = rig.stats.view();
    assert_eq!((view.awaiting, view.rejected_total(), view.accepted), (0, 1, 0));
    rig.check_accounts();
}

#[test]
fn a_held_block_is_not_overtaken_by_itself() {
    let mut rig = Rig::up();
    let job = rig.job(1);
    rig.drop_connection();
    let block = Share { is_block: true, ..share(&job, 1) };
    rig.mine(vec![block, share(&job, 2)]);
    rig.job(2);
    rig.connect("pool:1");
    rig.configure(TAG);
    assert_eq!((rig.sent_shares(), rig.lost(Lost::Stale)), (vec![1], 1));
    rig.check_accounts();
}

#[test]
fn a_split_ends_with_its_connection() {
    let mut rig = Rig::up();
    let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 3, &[output(9000, 1)]);
    rig.receive(&bytes).unwrap();
    rig.configure(TAG);
    assert!(terms(rig.relay.payout().unwrap()).coinbaser.is_some(), "the same connection");
    rig.drop_connection();
    rig.connect("pool:1");
    rig.configure(TAG);
    let now = terms(rig.relay.payout().unwrap());
    assert_eq!((now.epoch, now.coinbaser.is_none(), now.settled), (2, true, None));
    let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 4, &[output(9000, 1)]);
    rig.receive(&bytes).unwrap();
    let now = terms(rig.relay.payout().unwrap());
    assert_eq!((now.coinbaser.as_ref().unwrap().id, now.settled.unwrap().value), (4, 10_000));
}

#[test]
fn another_pools_split_is_not_adopted() {
    let mut rig = Rig::up();
    let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 3, &[output(9000, 1)]);
    rig.receive(&bytes).unwrap();
    rig.drop_connection();
    rig.connect("pool:2");
    rig.configure(TAG);
    let payout = rig.relay.payout().unwrap();
    assert_eq!((&*terms(payout).pool, terms(payout).epoch), ("pool:2", 2));
    assert!(terms(payout).coinbaser.is_none() && terms(payout).settled.is_none());
}

/// What `act` logs on this thread.
fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn every_fault_is_an_error_line_that_names_the_pool_and_what_it_did() {
    type Act = fn(&mut Rig);
    let cases: [(&str, Act); 6] = [
        ("sent an unsigned configuration, which is ignored", |rig| {
            let plain = encoded(&configuration(&SCRIPT, TAG, 0));
            let bytes = rig.pool.as_mut().unwrap().mining(&plain, false);
            rig.receive(&bytes).unwrap();
        }),
        ("sent a configuration that ends within its prime id, which is ignored", |rig| {
            let plain = encoded(&configuration(&SCRIPT, TAG, 0));
            let bytes = rig.pool.as_mut().unwrap().mining(&plain[..26], true);
            rig.receive(&bytes).unwrap();
        }),
        (
            "a coinbaser that pays more than 10000 sats with its first output, which is not used",
            |rig| {
                let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 1, &[output(20_000, 1)]);
                rig.receive(&bytes).unwrap();
            },
        ),
        (
            "a coinbaser that pays more than 10000 sats; outputs from number 1 on are left out",
            |rig| {
                let outputs = [output(9_000, 1), output(2_000, 1)];
                let bytes = rig.pool.as_mut().unwrap().coinbaser(10_000, 1, &outputs);
                rig.receive(&bytes).unwrap();
            },
        ),
        (
            "a coinbaser for 5 sats when 10000 were asked for, which is not used; mining goes on",
            |rig| {
                let bytes = rig.pool.as_mut().unwrap().coinbaser(5, 1, &[output(5, 1)]);
                rig.receive(&bytes).unwrap();
            },
        ),
        ("forged or garbled: its authentication code is wrong; trying again", |rig| {
            let mut bytes = rig.pool.as_mut().unwrap().mining(&[0xF9], false);
            bytes[10] ^= 1;
            let error = rig.receive(&bytes).unwrap_err();
            rig.relay.disconnected(&error.to_string(), "trying again", rig.now);
        }),
    ];
    for (expected, act) in cases {
        let mut rig = Rig::up();
        let log = logged(|| act(&mut rig));
        let line = log.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(line.contains("pool:1") && line.contains(expected), "{expected}:\n{log}");
        // Mining goes on, or waits.
        assert!(rig.relay.payout().is_some());
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Mine,
    Accept,
    Reject,
    Tip,
    Job,
    Drop,
    Return,
    Reconfigure,
    Wait,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_share_is_ever_forgotten(
        steps in prop::collection::vec(
            prop::sample::select(vec![
                Step::Mine, Step::Mine, Step::Mine, Step::Accept, Step::Accept, Step::Reject,
                Step::Tip, Step::Job, Step::Drop, Step::Return, Step::Reconfigure, Step::Wait,
            ]),
            0..80,
        ),
    ) {
        let mut rig = Rig::up();
        let (mut tip, mut tag, mut nonce) = (1u8, 0u8, 0);
        let mut job = rig.job(tip);
        let mut heard = Vec::new();
        for step in steps {
            match step {
                Step::Mine => {
                    nonce += 1;
                    rig.mine(vec![share(&job, nonce)]);
                }
                Step::Accept | Step::Reject if !heard.is_empty() && rig.pool.is_some() => {
                    let share: Share = heard.remove(0);
                    let (status, reason) = match step {
                        Step::Accept => (ShareStatus::Accepted, ShareReason::NONE),
                        _ => (ShareStatus::Rejected, ShareReason::HIGH_HASH),
                    };
                    rig.answer(&share, status, reason);
                }
                Step::Tip | Step::Job => {
                    tip += u8::from(matches!(step, Step::Tip));
                    job = rig.job(tip);
                }
                Step::Drop => {
                    rig.drop_connection();
                    heard.clear();
                }
                Step::Return if rig.pool.is_none() => {
                    rig.connect("pool:1");
                    rig.configure(&[tag]);
                }
                Step::Reconfigure => {
                    tag += 1;
                    if rig.pool.is_some() {
                        rig.configure(&[tag]);
                    }
                }
                Step::Wait => {
                    rig.now += 25 * SECOND;
                    if rig.relay.on_deadline(rig.now).is_err() {
                        rig.drop_connection();
                        heard.clear();
                    }
                }
                _ => {}
            }
            if rig.pool.is_some() {
                for plain in rig.sent() {
                    if let ToPool::Share(sent) = ToPool::decode(&plain).unwrap() {
                        // Enough to answer it.
                        heard.push(share(&job, sent.nonce));
                    }
                }
            }
            rig.check_accounts();
        }
        rig.relay.shut_down();
        rig.check_accounts();
        let view = rig.stats.view();
        prop_assert_eq!((view.held, view.awaiting), (0, 0));
    }
}
