//! Decides which pool to try after a connection or an attempt has ended.

/// How a connection or an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// No connection was made.
    Unreached,
    /// The socket was closed or failed.
    Closed,
    /// The pool broke a rule, fell silent or accepted nothing: the next attempt would probably end
    /// the same way.
    Failed,
}

/// What the connection had achieved by then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Past {
    /// It was configured, and lasted long enough to earn a quick retry.
    pub(super) lasted: bool,
    /// It accepted a share, or was sent none.
    pub(super) served: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Try the preferred pool, almost at once.
    Quick,
    /// Try this pool, at once.
    Pool(usize),
    /// All have been tried: wait, then begin with the preferred one.
    Wait,
}

/// Decides after an attempt with pool `at` of `count`.
pub(super) fn next(ended: Ended, past: Past, at: usize, count: usize) -> Next {
    let next = at.saturating_add(1);
    if ended == Ended::Closed && past.lasted && past.served {
        Next::Quick
    } else if next < count {
        Next::Pool(next)
    } else {
        Next::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Past = Past { lasted: true, served: true };

    #[test]
    fn a_pool_that_fails_gives_way_to_the_next_however_long_it_lasted() {
        assert_eq!(next(Ended::Failed, GOOD, 0, 2), Next::Pool(1));
        assert_eq!(next(Ended::Failed, GOOD, 1, 2), Next::Wait);
        assert_eq!(next(Ended::Unreached, GOOD, 0, 2), Next::Pool(1));
    }

    #[test]
    fn only_a_good_connection_that_closes_earns_a_quick_retry() {
        assert_eq!(next(Ended::Closed, GOOD, 0, 2), Next::Quick);
        assert_eq!(next(Ended::Closed, GOOD, 1, 2), Next::Quick);
        let short = Past { lasted: false, ..GOOD };
        assert_eq!(next(Ended::Closed, short, 0, 2), Next::Pool(1));
        let useless = Past { served: false, ..GOOD };
        assert_eq!(next(Ended::Closed, useless, 0, 2), Next::Pool(1));
        assert_eq!(next(Ended::Closed, useless, 0, 1), Next::Wait);
    }
}
