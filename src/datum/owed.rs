//! Coinbasers requested on a connection, and which request an answer belongs to.
//!
//! An answer repeats only the value that was asked for, and two blocks without fees have the same
//! value, but each has its own split. Answers come in the order of the requests, so the oldest
//! request for that value is the one answered, however late. That holds only as long as no request
//! is forgotten whose answer may still come; and a pool may leave one out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::work::CoinbaserRequest;

/// The requests that a pool has not answered yet.
#[derive(Debug, Default)]
pub(super) struct PendingCoinbasers {
    /// Oldest first, like all of these.
    asked: VecDeque<Asked>,
    /// Those that were given up, and until when their answers may still come, which will be before
    /// all others for the same value.
    late: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    request: CoinbaserRequest,
    deadline: Instant,
}

/// Which request an answer belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answered {
    For(CoinbaserRequest),
    /// To this one if every answer came; if one was left out, to another tip's.
    Doubtful(CoinbaserRequest),
    /// To none; perhaps it was very late. The value is what was requested last, if anything was.
    Unasked(Option<CoinbaserRequest>),
}

impl PendingCoinbasers {
    /// False: so many requests are unanswered that with one more, answers could not be told apart.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        self.forget_late(now);
        self.asked.len() + self.late.len() < OWED_MAX
    }

    pub(super) fn ask(&mut self, request: CoinbaserRequest, now: Instant) {
        if self.asked.len() == ASKED_MAX {
            self.give_up_oldest(now);
        }
        self.asked.push_back(Asked { request, deadline: now + COINBASER_LIMIT });
    }

    /// When [`Self::give_up`] has something to give up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.front().map(|asked| asked.deadline)
    }

    /// The next request to give up, if its time is over.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<CoinbaserRequest> {
        self.asked.front().filter(|asked| now >= asked.deadline)?;
        self.give_up_oldest(now)
    }

    fn give_up_oldest(&mut self, now: Instant) -> Option<CoinbaserRequest> {
        let Asked { request, .. } = self.asked.pop_front()?;
        self.late.push_back(Asked { request, deadline: now + LATE_LIMIT });
        Some(request)
    }

    fn forget_late(&mut self, now: Instant) {
        self.late.retain(|late| now < late.deadline);
    }

    /// Takes an answer for `value`.
    pub(super) fn answer(&mut self, value: u64, now: Instant) -> Answered {
        self.forget_late(now);
        let take = |all: &mut VecDeque<Asked>| {
            let at = all.iter().position(|asked| asked.request.value == value)?;
            all.remove(at)
        };
        let Some(asked) = take(&mut self.late).or_else(|| take(&mut self.asked)) else {
            return Answered::Unasked(self.asked.front().map(|asked| asked.request));
        };
        let request = asked.request;
        let mut others = self.late.iter().chain(&self.asked).map(|asked| asked.request);
        let is_rival =
            |other: CoinbaserRequest| other.value == value && other.prevhash != request.prevhash;
        if others.any(is_rival) { Answered::Doubtful(request) } else { Answered::For(request) }
    }
}

/// After this time the template is mined with the pool's single output.
const COINBASER_LIMIT: Duration = Duration::from_secs(5);
/// By then, whatever was on its way to or from the pool has arrived.
const LATE_LIMIT: Duration = Duration::from_secs(60);
/// Pending at the same time: each lasts 5 s, and templates come seconds apart.
const ASKED_MAX: usize = 16;
/// Sixteen a second for as long as answers may take; some 60 kB.
const OWED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Hash256;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        now
    }

    fn of(tip: u8, value: u64) -> CoinbaserRequest {
        CoinbaserRequest { prevhash: Hash256([tip; 32]), value }
    }

    /// Blocks each second or two, and a pool that is 20 s away: the oldest request was forgotten, its
    /// answer taken for the next one's, and the pool refused the shares.
    #[test]
    fn answers_are_told_apart_however_many_are_on_their_way() {
        let (mut owed, mut now) = (PendingCoinbasers::default(), start());
        for tip in 0..60 {
            while owed.give_up(now).is_some() {}
            assert!(owed.may_ask(now));
            owed.ask(of(tip, 50), now);
            now += Duration::from_millis(500);
        }
        for tip in 0..59 {
            assert_eq!(owed.answer(50, now), Answered::Doubtful(of(tip, 50)));
        }
        assert_eq!(owed.answer(50, now), Answered::For(of(59, 50)));
        assert_eq!(owed.answer(50, now), Answered::Unasked(None));
    }

    #[test]
    fn an_answer_that_may_be_another_tips_is_doubtful() {
        let (mut owed, now) = (PendingCoinbasers::default(), start());
        // The first is never answered. The node goes back to its tip.
        for tip in [1, 2, 1] {
            owed.ask(of(tip, 50), now);
        }
        assert_eq!(owed.answer(50, now), Answered::Doubtful(of(1, 50)), "it is of tip 2");
        // Another value speaks for itself, and the same request has the same split.
        owed.ask(of(3, 51), now);
        owed.ask(of(3, 51), now);
        assert_eq!(owed.answer(51, now), Answered::For(of(3, 51)));
    }

    #[test]
    fn who_owes_too_much_is_asked_for_no_more_until_it_is_forgotten() {
        let (mut owed, mut now) = (PendingCoinbasers::default(), start());
        let asked = (0..2000).filter(|_| {
            let may = owed.may_ask(now);
            if may {
                owed.ask(of(1, 50), now);
            }
            may
        });
        assert_eq!(asked.count(), OWED_MAX);
        now += COINBASER_LIMIT;
        assert_eq!(owed.give_up(now), Some(of(1, 50)));
        while owed.give_up(now).is_some() {}
        assert!(!owed.may_ask(now));
        now += LATE_LIMIT;
        assert!(owed.may_ask(now));
        assert_eq!(owed.answer(50, now), Answered::Unasked(None));
    }
}
