use super::*;

/// Ready or not, at a height, on a chain whose blocks are marked with a number.
type At = (bool, u32, u8);

struct Case {
    chooser: Chooser,
    start: Instant,
}

impl Case {
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn new(sources: usize) -> Self {
        let mut chooser = Chooser::default();
        chooser.rearrange(&vec![None; sources]);
        Self { chooser, start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// What is chosen when sources with full templates are like this.
    fn choose(&mut self, seconds: u64, list: &[At]) -> Option<usize> {
        let candidates: Vec<_> = list.iter().map(|it| candidate(*it)).collect();
        self.chooser.choose(&candidates, self.at(seconds))
    }
}

fn candidate((is_ready, height, mark): At) -> Candidate {
    let tip = Hash256([mark; 32]);
    Candidate { is_ready, place: WorkPosition { height, tip, work: None, is_full: true } }
}

/// Up and down, all on one chain.
fn up(height: u32) -> At {
    (true, height, u8::try_from(height).unwrap())
}

fn down(height: u32) -> At {
    (false, height, u8::try_from(height).unwrap())
}

#[test]
fn the_next_takes_over_at_once_and_the_first_comes_back_when_steady() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[down(0), down(0)]), None);
    assert_eq!(case.choose(1, &[down(0), up(5)]), Some(1));
    assert_eq!(case.choose(2, &[up(5), up(5)]), Some(1));
    assert_eq!(case.choose(6, &[up(5), up(5)]), Some(1));
    assert_eq!(case.choose(7, &[up(5), up(5)]), Some(0));
    assert_eq!(case.choose(8, &[down(5), up(5)]), Some(1));
    assert_eq!(case.choose(9, &[up(5), down(5)]), Some(0));
    assert_eq!(case.choose(10, &[down(5), down(5)]), Some(0));
}

#[test]
fn each_loss_doubles_the_wait_until_it_is_forgiven() {
    let mut case = Case::new(2);
    let mut now = 0;
    assert_eq!(case.choose(now, &[up(5), up(5)]), Some(0));
    for wait in [5, 10, 20, 40] {
        assert_eq!(case.choose(now + 1, &[down(5), up(5)]), Some(1));
        assert_eq!(case.choose(now + 2, &[up(5), up(5)]), Some(1));
        assert_eq!(case.choose(now + 1 + wait, &[up(5), up(5)]), Some(1), "after {wait}");
        now += 2 + wait;
        assert_eq!(case.choose(now, &[up(5), up(5)]), Some(0), "after {wait}");
    }
    now += 600;
    assert_eq!(case.choose(now, &[up(5), up(5)]), Some(0));
    assert_eq!(case.choose(now + 1, &[down(5), up(5)]), Some(1));
    assert_eq!(case.choose(now + 2, &[up(5), up(5)]), Some(1));
    assert_eq!(case.choose(now + 7, &[up(5), up(5)]), Some(0));
}

#[test]
fn whoever_has_the_best_tip_leads_until_the_preferred_one_has_it_too() {
    let mut case = Case::new(3);
    assert_eq!(case.choose(0, &[up(5), up(5), up(5)]), Some(0));
    assert_eq!(case.choose(10, &[up(5), up(5), up(6)]), Some(2));
    // The first has it a second later, and gets it back when the dust has settled.
    assert_eq!(case.choose(11, &[up(6), up(5), up(6)]), Some(2));
    assert_eq!(case.choose(12, &[up(6), up(6), up(6)]), Some(2));
    assert_eq!(case.choose(13, &[up(6), up(6), up(6)]), Some(0));
    // A better tip of its own counts at once.
    assert_eq!(case.choose(20, &[up(6), up(7), up(6)]), Some(1));
    assert_eq!(case.choose(21, &[up(8), up(7), up(6)]), Some(0));
}

#[test]
fn full_work_of_another_is_better_than_none_for_long() {
    let mut case = Case::new(2);
    let thin = |at: At| {
        let Candidate { is_ready, place } = candidate(at);
        Candidate { is_ready, place: WorkPosition { is_full: false, ..place } }
    };
    let full = candidate;
    let mut choose = |seconds, list: [Candidate; 2]| {
        case.chooser.choose(&list, case.start + Duration::from_millis(seconds))
    };
    assert_eq!(choose(0, [full(up(5)), full(up(5))]), Some(0));
    assert_eq!(choose(10_000, [thin(up(6)), full(up(6))]), Some(0));
    assert_eq!(choose(10_900, [thin(up(6)), full(up(6))]), Some(0));
    assert_eq!(choose(11_000, [thin(up(6)), full(up(6))]), Some(1));
    // Once it has made it, it is preferred again when the dust has settled.
    assert_eq!(choose(14_000, [full(up(6)), full(up(6))]), Some(1));
    assert_eq!(choose(16_000, [full(up(6)), full(up(6))]), Some(0));
    // Nobody has more: nobody is better.
    assert_eq!(choose(20_000, [thin(up(7)), thin(up(7))]), Some(0));
    assert_eq!(choose(29_000, [thin(up(7)), thin(up(7))]), Some(0));
}

#[test]
fn another_tip_of_the_same_height_is_no_reason_to_change() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[(true, 5, 1), (true, 5, 1)]), Some(0));
    assert_eq!(case.choose(9, &[(true, 5, 1), (true, 6, 2)]), Some(1));
    // The first comes with its own: what was first seen stays.
    assert_eq!(case.choose(10, &[(true, 6, 3), (true, 6, 2)]), Some(1));
    assert_eq!(case.choose(70, &[(true, 6, 3), (true, 6, 2)]), Some(1));
    assert_eq!(case.choose(71, &[(true, 7, 4), (true, 6, 2)]), Some(0));
    assert_eq!(case.choose(72, &[(true, 7, 4), (true, 7, 5)]), Some(0));
}

#[test]
fn work_counts_before_height_where_it_is_known() {
    let mut case = Case::new(2);
    let with = |at: At, work| {
        let candidate = candidate(at);
        Candidate {
            place: WorkPosition { work: Some(ChainWork::of(work)), ..candidate.place },
            ..candidate
        }
    };
    let mut choose = |seconds, list: [Candidate; 2]| {
        let now = case.at(seconds);
        case.chooser.choose(&list, now)
    };
    assert_eq!(choose(0, [with((true, 5, 1), 50), with((true, 5, 1), 50)]), Some(0));
    // Longer, but easier.
    assert_eq!(choose(1, [with((true, 6, 2), 60), with((true, 8, 3), 58)]), Some(0));
    assert_eq!(choose(2, [with((true, 6, 2), 60), with((true, 8, 3), 61)]), Some(1));
}

#[test]
fn a_source_that_stays_behind_is_seen() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[up(5), up(5)]), Some(0));
    assert_eq!(case.choose(1, &[up(5), up(6)]), Some(1));
    assert!(!case.chooser.is_behind(0, case.at(30)));
    assert!(case.chooser.is_behind(0, case.at(31)));
    // When the other one is lost, it is no better than before, for a while.
    assert_eq!(case.choose(31, &[up(5), down(6)]), Some(1));
    assert_eq!(case.choose(40, &[up(5), down(6)]), Some(1));
    assert_eq!(case.choose(41, &[up(5), down(6)]), Some(0));
    assert!(!case.chooser.is_behind(0, case.at(41)));
}

#[test]
fn a_preferred_source_that_restarts_is_taken_back_when_it_has_caught_up() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[up(5), up(5)]), Some(0));
    assert_eq!(case.choose(1, &[down(5), up(5)]), Some(1));
    assert_eq!(case.choose(2, &[up(4), up(5)]), Some(1));
    assert_eq!(case.choose(8, &[up(4), up(5)]), Some(1));
    assert_eq!(case.choose(9, &[up(4), up(6)]), Some(1));
    assert_eq!(case.choose(30, &[up(5), up(6)]), Some(1));
    assert_eq!(case.choose(31, &[up(6), up(6)]), Some(1));
    assert_eq!(case.choose(33, &[up(6), up(6)]), Some(0));
}

#[test]
fn a_template_in_full_is_not_given_up_for_a_header() {
    let mut case = Case::new(2);
    let header = |height| {
        let candidate = candidate(up(height));
        Candidate { place: WorkPosition { is_full: false, ..candidate.place }, ..candidate }
    };
    let mut choose = |seconds, list: [Candidate; 2]| {
        let now = case.at(seconds);
        case.chooser.choose(&list, now)
    };
    assert_eq!(choose(0, [candidate(up(5)), candidate(up(5))]), Some(0));
    assert_eq!(choose(9, [candidate(up(5)), candidate(up(6))]), Some(1));
    assert_eq!(choose(10, [header(6), candidate(up(6))]), Some(1));
    assert_eq!(choose(15, [header(6), candidate(up(6))]), Some(1));
    assert_eq!(choose(16, [candidate(up(6)), candidate(up(6))]), Some(1));
    assert_eq!(choose(18, [candidate(up(6)), candidate(up(6))]), Some(0));
}

#[test]
fn failing_over_to_an_older_tip_waits_for_it_to_catch_up() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[up(6), up(5)]), Some(0));
    // It has lagged for long when the first one fails: the wait begins then.
    assert_eq!(case.choose(60, &[down(6), up(5)]), Some(0));
    assert_eq!(case.choose(69, &[down(6), up(5)]), Some(0));
    assert_eq!(case.choose(70, &[down(6), up(5)]), Some(1));
    assert_eq!(case.choose(80, &[up(5), down(5)]), Some(0));
    assert_eq!(case.choose(81, &[up(6), up(5)]), Some(0));
    assert_eq!(case.choose(82, &[down(6), up(5)]), Some(0));
    assert_eq!(case.choose(83, &[down(6), up(6)]), Some(1));
}

#[test]
fn a_source_alone_may_go_back() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[down(0), up(6)]), Some(1));
    assert_eq!(case.choose(1, &[down(0), up(5)]), Some(1));
    assert_eq!(case.choose(2, &[up(5), up(5)]), Some(1));
    assert_eq!(case.choose(7, &[up(5), up(5)]), Some(0));
}

#[test]
fn sources_that_stay_keep_their_record_when_others_come_and_go() {
    let mut case = Case::new(2);
    assert_eq!(case.choose(0, &[up(5), up(5)]), Some(0));
    // The second becomes the first; a new one and the old first follow.
    case.chooser.rearrange(&[Some(1), None, Some(0)]);
    assert_eq!(case.choose(4, &[up(5), down(0), up(5)]), Some(2));
    assert_eq!(case.choose(5, &[up(5), down(0), up(5)]), Some(0));
    // The one in use goes; what is left is on an older tip, and has to catch up.
    case.chooser.rearrange(&[Some(1)]);
    assert_eq!(case.choose(6, &[down(0)]), None);
    assert_eq!(case.choose(7, &[up(4)]), None);
    assert_eq!(case.choose(8, &[up(5)]), Some(0));
    case.chooser.rearrange(&[]);
    assert_eq!(case.choose(9, &[]), None);
    case.chooser.rearrange(&[None]);
    assert_eq!(case.choose(10, &[up(4)]), None);
    assert_eq!(case.choose(20, &[up(4)]), Some(0));
}
