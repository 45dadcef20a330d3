use super::*;
use crate::work::{
    BlockLimits, CoinbaseClass, Coinbaser, Hash256, Nbits, PayoutOutput, TipHeader, VoidNow,
};

fn full(tip: u8, value: u64) -> Arc<Template> {
    let mut template = tip_template(tip);
    template.kind = TemplateKind::Full;
    template.coinbase_value = value;
    template.limits = BlockLimits::CONSENSUS;
    Arc::new(template)
}

fn tip_template(tip: u8) -> Template {
    let header = TipHeader {
        height: 100 + u32::from(tip),
        version: 0x2000_0000,
        prevhash: Hash256([tip; 32]),
        nbits: Nbits::new(0x207f_ffff).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        subsidy: 5_000_000_000,
    };
    Template::tip("test".into(), &header)
}

fn tip(tip: u8) -> Arc<Template> {
    Arc::new(tip_template(tip))
}

fn solo() -> Arc<Payout> {
    Arc::new(Payout {
        script: [0x51].into(),
        tag_primary: b"gatewayd".as_slice().into(),
        tag_secondary: [].into(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    })
}

/// Terms of connection `epoch`, with the split for `settled`.
fn pooled(epoch: u64, settled: Option<&Template>) -> Arc<Payout> {
    let request =
        settled.map(|t| CoinbaserRequest { prevhash: t.prevhash, value: t.coinbase_value });
    let mut payout = Payout::clone(&solo());
    payout.pooled = Some(PoolTerms {
        pool: "pool:1".into(),
        prime_id: 7,
        min_difficulty: 1,
        coinbaser: request.map(|request| {
            let outputs = [PayoutOutput { value: 1000, script: [0x52, 0x52].into() }].into();
            Arc::new(Coinbaser { id: 3, request, outputs })
        }),
        settled: request,
        epoch,
        series: 1,
        void_series: 0,
        void_now: VoidNow::default(),
    });
    Arc::new(payout)
}

struct AssemblerHarness {
    assembler: Assembler,
    now: Instant,
}

impl AssemblerHarness {
    fn new(pooled: bool, when_down: WhenDown) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let config = AssemblerConfig {
            solo: solo(),
            pooled,
            when_down,
            grace: Duration::from_secs(120),
            reconnect_grace: Duration::from_secs(10),
            refresh: Duration::from_secs(40),
            stale_after: Duration::from_secs(120),
            halving_interval: Some(150),
            job_life: Duration::from_secs(160),
            propose: false,
        };
        Self { assembler: Assembler::new(config, 0, now), now }
    }

    fn template(&mut self, template: &Arc<Template>) -> Option<Work> {
        self.assembler.on_template(template, self.now)
    }

    fn payout(&mut self, payout: &Arc<Payout>) -> Option<Work> {
        self.assembler.on_payout(payout, self.now)
    }

    fn health(&mut self, health: PoolHealth) -> Option<Work> {
        self.assembler.on_pool_health(health, self.now)
    }

    /// Lets `seconds` pass, acting on every deadline in between. Templates do not refresh.
    fn pass(&mut self, seconds: u64) -> Vec<Work> {
        let end = self.now + Duration::from_secs(seconds);
        let mut published = Vec::new();
        for _ in 0..100 {
            let deadline = self.assembler.deadline().filter(|deadline| *deadline <= end);
            let Some(deadline) = deadline else {
                self.now = end;
                return published;
            };
            self.now = self.now.max(deadline);
            published.extend(self.assembler.on_deadline(self.now));
        }
        panic!("deadlines never end");
    }
}

#[track_caller]
fn job(work: Option<Work>) -> Arc<Job> {
    Arc::clone(work.expect("work").latest())
}

#[test]
fn solo_work_on_a_tip_is_empty_then_full() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    let work = bench.template(&tip(1)).unwrap();
    assert_eq!(work.announce, Announce::Now);
    assert!(work.latest().is_empty());
    let work = bench.template(&full(1, 6_000_000_000)).unwrap();
    assert_eq!((work.announce, work.latest().coinbases().len()), (Announce::Now, 6));
    let refresh = bench.template(&full(1, 6_000_000_001)).unwrap();
    assert_eq!(refresh.announce, Announce::Paced(Duration::from_secs(40)));
    assert_eq!(refresh.jobs.len(), 3);
    assert!(bench.template(&tip(1)).is_none(), "the header of a known tip changes nothing");
    let mut easy = tip_template(1);
    (easy.kind, easy.nbits) = (TemplateKind::Full, Nbits::new(0x1d00_ffff).unwrap());
    let easy = bench.template(&Arc::new(easy)).unwrap();
    assert_eq!(easy.announce, Announce::Now, "different bits on the same tip");
}

#[test]
fn pooled_work_waits_for_the_split_without_idling() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    assert!(bench.template(&tip(1)).is_none(), "nobody to pay yet");
    assert!(bench.health(PoolHealth::Up).is_none());
    assert!(job(bench.payout(&pooled(1, None))).is_empty());
    let template = full(1, 6_000_000_000);
    let blank = job(bench.template(&template));
    assert!(!blank.is_empty() && blank.coinbases().len() == 1);
    let split = bench.payout(&pooled(1, Some(&template))).unwrap();
    assert_eq!((split.announce, split.latest().coinbases().len()), (Announce::Now, 6));
    // A refresh goes out with its split, not before.
    let next = full(1, 6_000_000_002);
    assert!(bench.template(&next).is_none());
    let refresh = bench.payout(&pooled(1, Some(&next))).unwrap();
    assert!(matches!(refresh.announce, Announce::Paced(_)));
}

#[test]
fn a_silent_coinbaser_costs_five_seconds_at_most() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    bench.payout(&pooled(1, None));
    job(bench.template(&full(1, 6_000_000_000)));
    let published = bench.pass(5);
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].latest().coinbases().len(), 6);
}

/// `payout` in another series; series up to `void` are worthless.
fn in_series(payout: &Payout, series: u64, void: u64) -> Arc<Payout> {
    let mut payout = payout.clone();
    let terms = payout.pooled.as_mut().unwrap();
    (terms.series, terms.void_series) = (series, void);
    Arc::new(payout)
}

#[test]
fn miners_work_for_the_operator_while_a_pool_without_lasting_ids_is_away() {
    for when_down in [WhenDown::Disconnect, WhenDown::Solo] {
        let mut bench = AssemblerHarness::new(true, when_down);
        bench.health(PoolHealth::Up);
        let template = full(1, 6_000_000_000);
        let up = pooled(1, Some(&template));
        bench.payout(&up);
        let old = job(bench.template(&template));
        let work = bench.payout(&in_series(&up, 1, 1)).expect("work at once");
        assert!(work.latest().payout.pooled.is_none() && work.announce == Announce::Now);
        assert!(work.is_void(&old) && work.supersedes(&old) && work.job(old.id).is_some());
        bench.health(PoolHealth::Down);
        assert!(bench.pass(9).iter().all(|work| work.admission == Admission::Open));
        // It is back within the grace, on terms of another series.
        let back = in_series(&pooled(2, Some(&template)), 2, 1);
        let between = bench.assembler.jobs[0].clone();
        let work = bench.payout(&back).expect("work at once");
        assert!(work.latest().payout.pooled.is_some() && work.supersedes(&between));
        assert!(work.is_void(&old) && !work.is_void(work.latest()));
        bench.health(PoolHealth::Up);
        // And away for longer than the grace.
        bench.payout(&in_series(&back, 2, 2));
        bench.health(PoolHealth::Down);
        let published = bench.pass(11);
        match when_down {
            WhenDown::Disconnect => {
                assert!(matches!(published.last().unwrap().admission, Admission::Closed(_)));
            }
            WhenDown::Solo => assert!(published.is_empty(), "the same work goes on"),
        }
    }
}

#[test]
fn a_pool_that_left_and_returned_unnoticed_has_still_voided_the_old_work() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    let old = job(bench.template(&template));
    let work = bench.payout(&in_series(&pooled(2, Some(&template)), 2, 1)).unwrap();
    assert!(work.is_void(&old) && !work.is_void(work.latest()));
}

#[test]
fn work_that_an_abandoned_pool_stops_accepting_is_voided_by_republishing_the_same_work() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    let old = job(bench.template(&template));
    let next = in_series(&pooled(2, Some(&template)), 2, 0);
    let work = bench.payout(&next).unwrap();
    assert!(!work.is_void(&old), "the abandoned pool still accepts its last shares");
    let latest = work.latest().id;
    let work = bench.payout(&in_series(&next, 2, 1)).expect("something to tell sessions");
    assert!(work.is_void(&old) && work.latest().id == latest && !work.is_void(work.latest()));
    assert!(bench.payout(&in_series(&next, 2, 1)).is_none());
    let work = bench.assembler.on_no_payout().expect("something to tell sessions");
    assert!(work.is_void(work.latest()));
}

#[test]
fn a_split_is_for_its_value_alone() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let first = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&first)));
    let paid = job(bench.template(&first));
    assert_eq!(paid.split().map(|split| split.id), Some(3));
    // A refreshed template waits for its own split; miners stay on the job they have.
    assert!(bench.template(&full(1, 6_000_000_007)).is_none());
    let published = bench.pass(5);
    let late = published.last().expect("after 5 s").latest();
    assert_eq!((late.template.coinbase_value, late.split().is_none()), (6_000_000_007, true));
    let outputs = late.coinbase(CoinbaseClass::Huge);
    assert!(!outputs.coinb2.windows(2).any(|window| window == [0x52, 0x52]), "no split's output");
    // The first value again, on the same tip: its split is right again.
    let again = bench.template(&first).expect("nothing to wait for");
    assert_eq!(again.latest().split().map(|split| split.id), Some(3));
}

#[test]
fn new_terms_reach_miners_at_once() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    job(bench.template(&template));
    let mut changed = Payout::clone(&pooled(1, Some(&template)));
    changed.tag_primary = b"other".as_slice().into();
    let work = bench.payout(&Arc::new(changed)).unwrap();
    assert_eq!(work.announce, Announce::Now);
    assert!(bench.payout(&pooled(2, Some(&template))).is_some(), "another connection");
}

#[test]
fn a_pool_away_for_less_than_the_grace_sends_nobody_away() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    job(bench.template(&template));
    assert!(bench.health(PoolHealth::Down).is_none());
    assert!(bench.pass(60).iter().all(|work| work.admission == Admission::Open));
    // A tip in the meantime is mined on the last terms.
    assert!(job(bench.template(&tip(2))).payout.pooled.is_some());
    let published = bench.pass(61);
    assert!(matches!(published.last().unwrap().admission, Admission::Closed(_)), "{published:?}");
    // The pool comes back: miners are admitted, with work.
    bench.template(&full(2, 6_000_000_000));
    let work = bench.health(PoolHealth::Up).unwrap();
    assert_eq!(work.admission, Admission::Open);
    assert_eq!(*work.tip(), Hash256([2; 32]));
}

#[test]
fn solo_takes_over_when_asked_to() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Solo);
    bench.template(&full(1, 6_000_000_000));
    let published = bench.pass(10);
    assert!(published.last().unwrap().latest().payout.pooled.is_none(), "the pool never came");
    bench.health(PoolHealth::Up);
    assert!(job(bench.payout(&pooled(1, None))).payout.pooled.is_some());
    bench.health(PoolHealth::Down);
    bench.template(&full(1, 6_000_000_001));
    let published = bench.pass(119);
    assert!(published.iter().all(|work| work.latest().payout.pooled.is_some()));
    bench.template(&full(1, 6_000_000_002));
    let published = bench.pass(2);
    assert!(published.last().unwrap().latest().payout.pooled.is_none());
}

#[test]
fn stale_templates_close_admission_and_fresh_ones_open_it() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    job(bench.template(&full(1, 6_000_000_000)));
    let published = bench.pass(120);
    let Admission::Closed(reason) = &published.last().unwrap().admission else { panic!("open") };
    assert!(reason.contains("stale_after"), "{reason}");
    assert_eq!(bench.template(&full(1, 6_000_000_000)).unwrap().admission, Admission::Open);
}

#[test]
fn a_dead_pool_and_a_dead_node_do_not_spin() {
    for when_down in [WhenDown::Disconnect, WhenDown::Solo] {
        let mut bench = AssemblerHarness::new(true, when_down);
        assert!(bench.pass(10_000).is_empty());
        bench.payout(&pooled(1, None));
        assert!(bench.pass(10_000).is_empty());
        assert!(bench.assembler.deadline().is_none_or(|deadline| deadline > bench.now));
    }
}

#[test]
fn a_pool_cannot_reopen_admission_onto_dead_work() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    bench.payout(&pooled(1, None));
    job(bench.template(&full(1, 6_000_000_000)));
    assert!(matches!(bench.pass(121).last().unwrap().admission, Admission::Closed(_)));
    assert!(bench.payout(&pooled(2, None)).is_none());
    assert!(bench.pass(100).is_empty());
}

#[test]
fn a_header_does_not_replace_the_template_of_the_same_tip() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    bench.payout(&pooled(1, None));
    let template = full(1, 6_000_000_000);
    job(bench.template(&template));
    assert!(bench.template(&tip(1)).is_none());
    let split = job(bench.payout(&pooled(1, Some(&template))));
    assert_eq!(split.coinbases().len(), 6);
}

#[test]
fn frequent_templates_do_not_postpone_work_for_a_silent_coinbaser() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    bench.payout(&pooled(1, None));
    job(bench.template(&full(1, 6_000_000_000)));
    let mut published = 0;
    for second in 0..20 {
        published += bench.pass(1).len();
        bench.template(&full(1, 6_000_000_001 + second));
    }
    assert!(published >= 3, "{published}");
}

#[test]
fn refused_splits_are_left_out_until_the_next_tip() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    let split = job(bench.template(&template));
    let outputs = |job: &Job| job.payout.pooled.as_ref().unwrap().coinbaser.is_some();
    assert!(outputs(&split));
    let work = bench.assembler.on_verdict(&split, Some(false), bench.now).unwrap();
    assert!(work.announce == Announce::Now && !outputs(work.latest()));
    let again = full(1, 6_000_000_001);
    bench.payout(&pooled(1, Some(&again)));
    assert!(!outputs(&job(bench.template(&again))));
    let next = full(2, 6_000_000_000);
    bench.payout(&pooled(1, Some(&next)));
    assert!(outputs(&job(bench.template(&next))));
}

#[test]
fn refused_terms_give_way_to_the_last_good_ones() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, None));
    let first = job(bench.template(&template));
    assert!(bench.assembler.on_verdict(&first, Some(true), bench.now).is_none());
    let mut bad = Payout::clone(&pooled(1, None));
    bad.script = [0x53].into();
    let bad = job(bench.payout(&Arc::new(bad)));
    assert_eq!(*bad.payout.script, [0x53]);
    let work = bench.assembler.on_verdict(&bad, Some(false), bench.now).unwrap();
    assert_eq!(work.latest().payout.script, first.payout.script);
}

#[test]
fn old_jobs_let_go_of_their_templates() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    let mut most = 0;
    for refresh in 0..30 {
        let work = bench.template(&full(1, 6_000_000_000 + refresh)).unwrap();
        most = most.max(work.jobs.len());
        bench.pass(40);
    }
    // 320 s at one job every 40 s, and the newest.
    assert_eq!(most, 9);
}

#[test]
fn a_pool_that_is_being_connected_to_does_not_close_admission() {
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.health(PoolHealth::Down);
    bench.template(&full(1, 6_000_000_000));
    assert_eq!(*bench.assembler.admission(), Admission::Open);
    bench.pass(11);
    assert!(matches!(bench.assembler.admission(), Admission::Closed(_)));
    bench.health(PoolHealth::Up);
    assert_eq!(bench.payout(&pooled(1, None)).unwrap().admission, Admission::Open);
}

#[test]
fn the_empty_job_of_the_next_tip_is_known_before_it() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    let first = bench.template(&full(1, 5_000_000_000)).unwrap().upcoming.unwrap();
    assert_eq!((first.height, first.version), (102, 0x2000_0000));
    let same = bench.template(&full(1, 5_000_000_000)).unwrap().upcoming.unwrap();
    assert_eq!(same.id, first.id, "a refresh does not change it");
    let work = bench.template(&tip(2)).unwrap();
    assert_eq!(work.latest().id, first.id);
    assert_eq!(work.latest().coinbase(CoinbaseClass::Empty), &first.coinbase);
    let next = work.upcoming.unwrap();
    assert_eq!(next.height, 103);
    assert!(next.id != first.id && next.coinbase != first.coinbase);
}

#[test]
fn an_empty_job_that_was_guessed_wrong_is_rebuilt() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    // At height 150 the subsidy halves.
    let first = bench.template(&full(48, 5_000_000_000)).unwrap().upcoming.unwrap();
    let work = bench.template(&full(49, 5_000_000_000)).unwrap();
    let halved = work.upcoming.unwrap();
    assert_eq!(halved.subsidy, 2_500_000_000);
    // The header says otherwise, as after a reorganisation.
    let work = bench.template(&tip(50)).unwrap();
    assert!(![first.id, halved.id].contains(&work.latest().id));
    assert_eq!(work.latest().template.subsidy(), 5_000_000_000);
}

#[test]
fn another_address_is_paid_at_once_and_pools_come_and_go() {
    let mut bench = AssemblerHarness::new(false, WhenDown::Disconnect);
    let template = full(1, 5_000);
    bench.template(&template).unwrap();
    let with = |bench: &AssemblerHarness, pooled: bool, script: u8| AssemblerConfig {
        solo: Arc::new(Payout { script: [script].into(), ..Payout::clone(&solo()) }),
        pooled,
        ..bench.assembler.config.clone()
    };
    let same = with(&bench, false, 0x51);
    let work = bench.assembler.on_config(&same, bench.now).unwrap();
    assert_eq!(work.announce, Announce::Now, "it brings new rules");
    let other = with(&bench, false, 0x53);
    let work = bench.assembler.on_config(&other, bench.now).unwrap();
    assert_eq!((&work.latest().payout.script[..], &work.announce), (&[0x53][..], &Announce::Now));
    assert_eq!(work.admission, Admission::Open);
    // A first pool has time to come up: until then it is solo, even on a new tip.
    bench.now += Duration::from_secs(1_000);
    bench.template(&template);
    let pooled_config = with(&bench, true, 0x53);
    let work = bench.assembler.on_config(&pooled_config, bench.now).unwrap();
    assert!(work.latest().payout.pooled.is_none() && work.admission == Admission::Open);
    let template = full(2, 5_000);
    let work = bench.template(&template).unwrap();
    assert!(work.latest().payout.pooled.is_none() && work.admission == Admission::Open);
    bench.health(PoolHealth::Up);
    let work = bench.payout(&pooled(1, Some(&template))).unwrap();
    assert!(work.latest().payout.pooled.is_some());
    // Without one it is solo again at once, whatever the pool still says.
    let work = bench.assembler.on_config(&other, bench.now).unwrap();
    assert!(work.latest().payout.pooled.is_none());
    assert!(bench.payout(&pooled(2, Some(&template))).is_none());
    bench.assembler.on_no_payout();
    bench.health(PoolHealth::Down);
    bench.assembler.on_config(&pooled_config, bench.now);
    // A pool that never answers: miners are then sent to their own backup.
    assert!(bench.pass(29).is_empty());
    assert!(matches!(bench.pass(2).pop().unwrap().admission, Admission::Closed(_)));
}

#[test]
fn splits_are_mined_on_once_a_node_would_accept_them() {
    let has_splits = |work: &Work| work.latest().coinbases().len() > 1;
    let mut bench = AssemblerHarness::new(true, WhenDown::Disconnect);
    bench.assembler.config.propose = true;
    bench.health(PoolHealth::Up);
    let template = full(1, 6_000_000_000);
    bench.payout(&pooled(1, Some(&template)));
    // Meanwhile there is work on the tip that pays the pool alone.
    let work = bench.template(&template).unwrap();
    assert!(!has_splits(&work) && work.announce == Announce::Now);
    let trial = bench.assembler.take_proposal().unwrap();
    assert!(trial.coinbases().len() > 1 && bench.assembler.take_proposal().is_none());
    let work = bench.assembler.on_verdict(&trial, Some(true), bench.now).unwrap();
    assert!(has_splits(&work) && Arc::ptr_eq(work.latest(), &trial));
    // The same tip again: it has said so.
    let again = full(1, 6_000_000_001);
    bench.payout(&pooled(1, Some(&again)));
    assert!(has_splits(&bench.template(&again).unwrap()));
    assert!(bench.assembler.take_proposal().is_none());
    // The next tip: the node refuses, and nobody ever works on it.
    let next = full(2, 6_000_000_000);
    bench.payout(&pooled(1, Some(&next)));
    assert!(!has_splits(&bench.template(&next).unwrap()));
    let trial = bench.assembler.take_proposal().unwrap();
    let work = bench.assembler.on_verdict(&trial, Some(false), bench.now).unwrap();
    assert!(!work.jobs.iter().any(|job| Arc::ptr_eq(job, &trial)));
    assert!(work.latest().payout.pooled.as_ref().unwrap().coinbaser.is_none());
    // Neither a node that does not answer nor one that gives no verdict holds anything up for long.
    for (tip, says) in [(3, false), (4, true)] {
        let next = full(tip, 6_000_000_000);
        bench.payout(&pooled(1, Some(&next)));
        assert!(!has_splits(&bench.template(&next).unwrap()));
        let trial = bench.assembler.take_proposal().unwrap();
        let work = match says {
            true => bench.assembler.on_verdict(&trial, None, bench.now).unwrap(),
            false => bench.pass(2).pop().unwrap(),
        };
        assert!(Arc::ptr_eq(work.latest(), &trial));
    }
    // An answer that comes too late no longer matters.
    let next = full(5, 6_000_000_000);
    bench.payout(&pooled(1, Some(&next)));
    bench.template(&next);
    let trial = bench.assembler.take_proposal().unwrap();
    bench.template(&tip(6));
    assert!(bench.assembler.on_verdict(&trial, Some(true), bench.now).is_none());
    assert!(bench.pass(10).iter().all(|work| *work.tip() != *trial.prevhash()));
}
