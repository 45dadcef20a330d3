//! What real pools do, each habit on its own and compared with a pool without it.

use super::*;
use crate::devnet::pool::{
    Coinbasers, Habits, PrimeIds,
    ledger::{MisusedSplits, Unchecked},
};

const KIND: Habits = Habits {
    prime_ids: PrimeIds::Kept,
    bound_splits: false,
    voids_unchecked: false,
    unanswered_every: 0,
    blank_rejections: false,
    status: None,
    coinbasers: Coinbasers::AtOnce,
};

impl Rig {
    fn with(habits: Habits) -> Self {
        let mut rig = Self::new(quiet());
        rig.control.habits = habits;
        rig.hello();
        rig
    }

    /// A job with the prime id that this connection was given.
    fn own_job(&mut self, what: BuildJob, template: &Arc<Template>) -> Arc<Job> {
        let wanted = Arc::clone(&self.control.config);
        let told = PoolConfig { prime_id: self.prime_id, ..PoolConfig::clone(&wanted) };
        self.control.config = told.into();
        let job = self.job(what, template);
        self.control.config = wanted;
        job
    }

    /// The messages in what the pool sent, decrypted but not parsed.
    fn plain(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (handshake, link) = self.gateway.as_mut().unwrap();
        link.push(bytes);
        let mut messages = Vec::new();
        while let Some(frame) = link.next(handshake.session()).unwrap() {
            messages.push(frame.plain.to_vec());
        }
        messages
    }

    fn at_deadline(&mut self) -> Vec<Heard> {
        let mut out = Vec::new();
        self.session.on_deadline(self.now, &self.control, &mut out).unwrap();
        self.hear(&out).unwrap()
    }
}

#[test]
fn each_connection_has_a_prime_id_of_its_own_and_work_with_an_earlier_one_is_rejected() {
    let mut rig = Rig::with(Habits { prime_ids: PrimeIds::PerConnection, ..KIND });
    let template = template(1, 200, 3);
    let mut seen = vec![rig.prime_id];
    let job = rig.own_job(BuildJob::Classes, &template);
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Ok(()));
    for reconnection in 1..4 {
        rig.hello();
        assert!(!seen.contains(&rig.prime_id), "{} again", rig.prime_id);
        seen.push(rig.prime_id);
        // With its contexts, as after any reconnection.
        let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
        assert_eq!(rig.answer(share), Err(ShareReason::MISSING_TAG));
        assert_eq!(rig.ledger.stats().foreign_prime_ids, reconnection);
        let new = rig.own_job(BuildJob::Classes, &template);
        let share = rig.mine(&new, new.coinbase(CoinbaseClass::Huge));
        assert_eq!(rig.answer(share), Ok(()));
    }
    // Other terms do not change the connection's prime id.
    rig.control.config = PoolConfig { tag: b"renamed".to_vec(), ..quiet() }.into();
    rig.control().unwrap();
    assert_eq!(Some(&rig.prime_id), seen.last());
    let renamed = rig.own_job(BuildJob::Classes, &template);
    let share = rig.mine(&renamed, renamed.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Ok(()));
}

#[test]
fn a_kept_prime_id_is_valid_on_every_connection() {
    let mut rig = Rig::with(KIND);
    let job = rig.own_job(BuildJob::Classes, &template(1, 200, 3));
    let first = rig.prime_id;
    rig.hello();
    assert_eq!((rig.prime_id, first), (quiet().prime_id, quiet().prime_id));
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Ok(()));
    assert_eq!(rig.ledger.stats().foreign_prime_ids, 0);
}

#[test]
fn every_third_share_counts_without_an_answer() {
    let mut rig = Rig::with(Habits { unanswered_every: 3, ..KIND });
    let job = rig.own_job(BuildJob::Classes, &template(1, 200, 0));
    let answers = (0..9).map(|_| {
        let share = rig.mine(&job, job.coinbase(CoinbaseClass::Tiny));
        rig.say(&ToPool::Share(share)).len()
    });
    assert_eq!(answers.collect::<Vec<_>>(), [1, 1, 0, 1, 1, 0, 1, 1, 0]);
    let stats = rig.ledger.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.unanswered), (9, 0, 3));
}

#[test]
fn rejections_can_come_with_target_byte_ff() {
    for (blank_rejections, byte) in [(false, 5), (true, 0xFF)] {
        let mut rig = Rig::with(Habits { blank_rejections, ..KIND });
        let job = rig.own_job(BuildJob::Classes, &template(1, 200, 0));
        let good = rig.mine(&job, job.coinbase(CoinbaseClass::Tiny));
        let bad = ShareMessage { target_byte: 5, username: b"", ..good.clone() };
        for (share, byte) in [(good, 0), (bad, byte)] {
            let heard = rig.say(&ToPool::Share(share));
            let [Heard::Response(response)] = heard[..] else { panic!("{heard:?}") };
            assert_eq!(response.target_byte, byte, "{response:?}");
        }
    }
}

#[test]
fn answers_can_have_an_unknown_status() {
    let mut rig = Rig::with(Habits { status: Some(0x77), ..KIND });
    let job = rig.own_job(BuildJob::Classes, &template(1, 200, 0));
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Tiny));
    let (slot, nonce) = (share.slot, share.nonce);
    for (share, reason) in [(share.clone(), 0), (share, ShareReason::DUPLICATE.0)] {
        let reply = rig.send(&ToPool::Share(share)).unwrap();
        let mut expected = vec![0x8F, 0x77];
        expected.extend(reason.to_le_bytes());
        expected.extend(nonce.to_le_bytes());
        expected.extend([0, slot]);
        assert_eq!(rig.plain(&reply), [expected]);
    }
    assert_eq!((rig.ledger.stats().accepted, rig.ledger.stats().rejected), (1, 1));
}

/// A share on `template` whose job claims the split of another request. Returns the
/// pool's verdict and its counts.
fn share_with_split_of(
    bound_splits: bool,
    template: &Arc<Template>,
    other: CoinbaserRequest,
    reconnects: bool,
) -> (Result<(), ShareReason>, MisusedSplits) {
    let mut rig = Rig::with(Habits { bound_splits, ..KIND });
    let coinbaser_id = rig.fetch(other).id;
    if reconnects {
        rig.hello();
    }
    let job = rig.own_job(BuildJob::Classes, template);
    let mut share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    share.job.as_mut().unwrap().coinbaser_id = coinbaser_id;
    (rig.answer(share), rig.ledger.stats().splits_misused)
}

#[test]
fn a_split_can_be_bound_to_its_connection_its_tip_and_its_value() {
    let template = template(1, 200, 3);
    let right = CoinbaserRequest { prevhash: template.prevhash, value: template.coinbase_value };
    let other_tip = CoinbaserRequest { prevhash: Hash256([7; 32]), ..right };
    let other_value = CoinbaserRequest { value: right.value - 100, ..right };
    let none = MisusedSplits::default();
    let connection = MisusedSplits { of_other_connection: 1, ..none };
    let tip = MisusedSplits { of_other_tip: 1, ..none };
    let value = MisusedSplits { of_other_value: 1, ..none };
    let (mismatch, outputs) =
        (Err(ShareReason::COINBASE_ID_MISMATCH), Err(ShareReason::BAD_OUTPUTS));
    for (request, reconnects, bound, kind, counted) in [
        (right, false, Ok(()), Ok(()), none),
        (right, true, Err(ShareReason::BAD_COINBASER_ID), Ok(()), connection),
        (other_tip, false, mismatch, Ok(()), tip),
        // From the outputs alone, too, they are seen to be others.
        (other_value, false, mismatch, outputs, value),
    ] {
        for (bound_splits, verdict) in [(true, bound), (false, kind)] {
            let (got, misused) = share_with_split_of(bound_splits, &template, request, reconnects);
            assert_eq!((got, misused), (verdict, counted), "bound {bound_splits}, {request:?}");
        }
    }
}

#[test]
fn the_pools_single_output_is_valid_for_every_value() {
    let mut rig = Rig::with(Habits::like_ocean());
    for (prevhash, transactions) in [(1, 3), (1, 5), (2, 0)] {
        let template = template(prevhash, 199 + u32::from(prevhash), transactions);
        for what in [BuildJob::SubsidyOnly, BuildJob::Blank] {
            let job = rig.own_job(what, &template);
            let coinbase = &job.coinbases()[0];
            let mut share = rig.mine(&job, coinbase);
            share.job.as_mut().unwrap().coinbaser_id = 0;
            assert_eq!(rig.answer(share), Ok(()));
        }
    }
    assert_eq!(rig.ledger.stats().splits_misused.total(), 0);
}

#[test]
fn splits_can_arrive_late() {
    let delay = Duration::from_secs(3);
    let mut rig = Rig::with(Habits { coinbasers: Coinbasers::After(delay), ..KIND });
    let fetch = |value| {
        let request = CoinbaserRequest { prevhash: Hash256::ZERO, value };
        ToPool::FetchCoinbaser { request, padding: &[1] }
    };
    assert_eq!(rig.session.deadline(), None);
    let start = rig.now.instant;
    assert_eq!(rig.say(&fetch(1000)), []);
    rig.now.instant += Duration::from_secs(1);
    assert_eq!(rig.say(&fetch(2000)), []);
    for (due, value) in [(start + delay, 1000_u64), (start + delay + Duration::from_secs(1), 2000)]
    {
        assert_eq!(rig.session.deadline(), Some(due));
        rig.now.instant = due - Duration::from_millis(1);
        assert_eq!(rig.at_deadline(), []);
        rig.now.instant = due;
        let heard = rig.at_deadline();
        let [Heard::Coinbaser(plain)] = heard.as_slice() else { panic!("{heard:?}") };
        assert_eq!(plain[1..9], value.to_le_bytes());
    }
    assert_eq!((rig.session.deadline(), rig.ledger.stats().coinbasers), (None, 2));
}

#[test]
fn splits_can_fail_to_arrive() {
    let mut rig = Rig::with(Habits { coinbasers: Coinbasers::Never, ..KIND });
    let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: 1000 };
    assert_eq!(rig.say(&ToPool::FetchCoinbaser { request, padding: &[1] }), []);
    assert_eq!(rig.session.deadline(), None);
}

/// Mines `shares` on a new template and answers the pool's first question, truthfully or not.
fn mine_and_answer(rig: &mut Rig, told: &Arc<Template>, shares: usize, truly: bool) {
    let ids = ShortIds::new(rig.long_term.public(), rig.pool.public());
    let job = rig.own_job(BuildJob::Classes, told);
    let mut asked = None;
    for at in 0..shares {
        let mut share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
        if at > 0 {
            (share.job, share.coinbase) = (None, None);
        }
        let question = rig.say(&ToPool::Share(share)).into_iter().nth(1);
        asked = asked.or(question);
    }
    let mut question = asked.expect("each template is checked");
    let none = template(1, 200, 0);
    let shown = if truly { told } else { &none };
    loop {
        let (_, plain) = answer_to(&question, shown, &ids);
        match rig.say(&ToPool::decode(&plain).unwrap()).pop() {
            Some(next) => question = next,
            None => return,
        }
    }
}

#[test]
fn a_failed_check_voids_what_was_accepted_since_the_last_good_one() {
    for (voids_unchecked, voided) in [(true, [0, 5, 5, 8]), (false, [0; 4])] {
        let mut rig = Rig::with(Habits { voids_unchecked, ..KIND });
        rig.control.config = PoolConfig { validation: ValidationPlan::default(), ..quiet() }.into();
        rig.control().unwrap();
        let steps = [(4, true), (2, false), (1, true), (3, false)];
        for (at, (shares, truly)) in steps.into_iter().enumerate() {
            let template = template(1, 200, 3 + u32::try_from(at).unwrap());
            mine_and_answer(&mut rig, &template, shares, truly);
            let stats = rig.ledger.stats();
            // The good check was asked for at the first of its shares, and vouches for no later
            // one.
            let expected = Unchecked { shares: voided[at], difficulty: 0.0 };
            assert_eq!(stats.voided, expected, "step {at}: {:?}", stats.last_validation_failure);
        }
        // Shares already answered as accepted stay so.
        assert_eq!(rig.ledger.stats().accepted, 10);
        assert_eq!(rig.ledger.stats().validations_failed, 2);
    }
}

#[test]
fn a_probe_that_cannot_be_answered_voids_nothing() {
    let mut rig = Rig::with(Habits { voids_unchecked: true, ..KIND });
    let job = rig.own_job(BuildJob::Classes, &template(1, 200, 3));
    let share = rig.mine(&job, job.coinbase(CoinbaseClass::Huge));
    assert_eq!(rig.answer(share), Ok(()));
    let answer = Validation::Error { wanted: Wanted::ShortIds, error: ValidationError::OutOfRange };
    rig.say(&ToPool::Validation { slot: 0, answer, padding: &[8; 6] });
    let stats = rig.ledger.stats();
    assert_eq!((stats.validations_refused, stats.voided.shares), (1, 0));
}

#[test]
fn raw_messages_of_gateways_are_kept_on_request() {
    let say = |ledger: Ledger| {
        let mut rig = Rig::new(quiet());
        rig.ledger = ledger;
        rig.hello();
        let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: 1000 };
        rig.fetch(request);
        rig.hello();
        (rig.ledger.heard().cloned().collect::<Vec<_>>(), *rig.long_term.public())
    };
    assert_eq!(say(Ledger::default()).0, []);
    let (heard, key) = say(Ledger::listening(2));
    let [fetch, hello] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((fetch.connection, fetch.is_hello, fetch.plain[0]), (1, false, 0x10));
    assert!(matches!(ToPool::decode(&fetch.plain), Ok(ToPool::FetchCoinbaser { .. })));
    assert_eq!((hello.connection, hello.is_hello), (2, true));
    let hello = crate::datum::message::Hello::decode(&hello.plain).unwrap();
    assert_eq!((hello.keys.long_term, hello.user_agent), (key, &b"rig/1"[..]));
}

#[test]
fn shares_are_counted_by_their_flags_valid_or_not() {
    let mut rig = Rig::with(KIND);
    let template = template(1, 200, 3);
    let full = rig.own_job(BuildJob::Classes, &template);
    let empty = rig.own_job(BuildJob::SubsidyOnly, &template);
    let share = rig.mine(&full, full.coinbase(CoinbaseClass::Huge));
    let _ = rig.answer(share.clone());
    // Sent again, so rejected.
    let _ = rig.answer(share.clone());
    let _ = rig.answer(ShareMessage { flags: ShareFlags(4), ..share });
    let share = rig.mine(&empty, &empty.coinbases()[0]);
    let _ = rig.answer(share.clone());
    let _ = rig.answer(ShareMessage { flags: ShareFlags(6), ..share });
    let stats = rig.ledger.stats();
    assert_eq!(stats.shares_by_flags, BTreeMap::from([(1, 2), (3, 1), (4, 1), (6, 1)]));
    assert_eq!(stats.accepted + stats.rejected, 5);
    assert_eq!(stats.blocks_flagged, 3);
    let last = rig.ledger.recent().last().unwrap();
    assert_eq!(last.flags, ShareFlags(6));
}
