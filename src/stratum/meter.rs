//! What a connection has used lately, reported to the limiter now and then, never per share.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Closing, Tally};
use crate::{
    books::Roster,
    work::limits::{Limit, LimitCrossed},
};

/// What counts against a connection; nothing where there is no limiter. Small: there are tens of
/// thousands.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter(Option<Box<Usage>>);

#[derive(Debug)]
struct Usage {
    roster: Arc<Roster>,
    ip: IpAddr,
    /// As of the last read.
    is_proven: bool,
    bytes: u32,
    bad: u32,
    good: u64,
    /// Nothing is read until then.
    until: Option<Instant>,
}

impl UsageMeter {
    /// `wait`: how long to wait before the first answer.
    pub(crate) fn new(
        roster: Arc<Roster>,
        ip: IpAddr,
        wait: Option<Duration>,
        now: Instant,
    ) -> Self {
        let until = wait.map(|wait| now + wait.clamp(HOLD_MIN, HOLD_MAX));
        let usage = Usage { roster, ip, is_proven: false, bytes: 0, bad: 0, good: 0, until };
        Self(Some(Box::new(usage)))
    }

    /// Counts a read: bytes received and sent, and shares. Bytes sent count as well for strangers.
    pub(super) fn record(
        &mut self,
        [read, answered]: [usize; 2],
        tally: &Tally,
        is_proven: bool,
        now: Instant,
    ) -> Result<(), Closing> {
        let Some(usage) = &mut self.0 else { return Ok(()) };
        usage.is_proven = is_proven;
        let bytes = if is_proven { read } else { read + answered };
        usage.bytes = usage.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        usage.good = usage.good.saturating_add(tally.accepted());
        usage.bad = usage.bad.saturating_add(tally.bad());
        let bytes_most = if is_proven { BYTES_EACH } else { BYTES_EACH_UNPROVEN };
        if usage.bytes < bytes_most && usage.bad < BAD_EACH {
            return Ok(());
        }
        usage.report(bytes_most, BAD_EACH, now)
    }

    /// When the next read may happen, if not now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.0.as_ref()?.until.filter(|until| *until > now)
    }

    /// The connection has ended: what is left is reported too, or reconnecting would be free.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(usage) = &mut self.0 {
            // It is too late to close it.
            let _ = usage.report(1, 1, now);
        }
    }
}

impl Usage {
    fn report(&mut self, bytes_least: u32, bad_least: u32, now: Instant) -> Result<(), Closing> {
        let own_proof = usize::from(self.is_proven);
        let (limiter, ip) = (self.roster.limiter(), self.ip);
        let take = |limit, count| limiter.take(limit, ip, count, own_proof, now);
        if self.bad >= bad_least {
            let bad = std::mem::take(&mut self.bad);
            let good = std::mem::take(&mut self.good);
            // Some firmware has many shares refused, and still works.
            if u64::from(bad) * GOOD_EACH_BAD > good {
                take(Limit::BadShares, bad).map_err(|crossed| close_for(crossed, TOO_MANY_BAD))?;
            }
        }
        if self.bytes >= bytes_least {
            match take(Limit::Bytes, self.bytes) {
                Ok(()) => self.bytes = 0,
                Err(LimitCrossed::Wait(wait)) => {
                    self.until = Some(now + wait.clamp(HOLD_MIN, HOLD_MAX));
                }
                Err(crossed) => return Err(close_for(crossed, TOO_MANY_BYTES)),
            }
        }
        Ok(())
    }
}

/// Why a connection that crossed a limit is closed; `asked` is the reason for the limit that was
/// checked.
pub(super) fn close_for(crossed: LimitCrossed, asked: Closing) -> Closing {
    match crossed {
        LimitCrossed::Wait(_) => asked,
        // Usually not the limit that was checked.
        LimitCrossed::Banned(limit) => Closing::Violation(Cow::Owned(format!(
            "crossed limits.{} again and again, alone or with others at the same address, which is \
             banned for a while",
            limit.key()
        ))),
        LimitCrossed::Denied => DENIED,
    }
}

const DENIED: Closing = Closing::Violation(Cow::Borrowed("was put into limits.deny"));
const TOO_MANY_BYTES: Closing = Closing::Violation(Cow::Borrowed(
    "sent or asked for more than limits.bytes_per_second allows from its address",
));
const TOO_MANY_BAD: Closing = Closing::Violation(Cow::Borrowed(
    "sent more bad shares than limits.bad_shares_per_minute allows from its address",
));
/// What an honest miner sends in an hour.
const BYTES_EACH: u32 = 1 << 16;
/// Half of a large job: a stranger's bytes are counted early.
const BYTES_EACH_UNPROVEN: u32 = 1 << 13;
const BAD_EACH: u32 = 16;
/// With this many good shares per bad one, bad shares do not count against a miner.
const GOOD_EACH_BAD: u64 = 4;
/// Thousands that wait must not keep waking up.
const HOLD_MIN: Duration = Duration::from_millis(500);
/// Well below the time for which TCP keeps a connection that nobody reads from.
const HOLD_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        books::MinerProtocol,
        work::{Reject, limits::LimitRules},
    };

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        Instant::now()
    }

    fn roster(now: Instant) -> Arc<Roster> {
        let roster = Roster::new(now);
        let rules = LimitRules {
            bad_shares_per_minute: 100,
            bytes_per_second: 100_000,
            ban_first: Duration::ZERO,
            ..LimitRules::default()
        };
        roster.limiter().set_rules(rules, now);
        roster
    }

    fn read(good: u32, bad: &[Reject]) -> Tally {
        let mut tally = Tally::default();
        (0..good).for_each(|_| tally.accept(MinerProtocol::Sv1, 1.0));
        bad.iter().for_each(|reject| tally.reject(MinerProtocol::Sv1, *reject, 1.0));
        tally
    }

    #[test]
    fn a_flood_of_bad_shares_ends_the_connection_and_stale_ones_never_do() {
        let now = start();
        let roster = roster(now);
        let mut meter = UsageMeter::new(Arc::clone(&roster), PEER, None, now);
        // A tip that came late, and a miner that resends everything after reconnecting.
        let harmless = [
            Reject::StalePrevblk,
            Reject::StaleWork,
            Reject::UnknownJob,
            Reject::Duplicate,
            Reject::TooMany,
            Reject::NtimeTooOld,
            Reject::Unauthorized,
        ];
        for _ in 0..10_000 {
            meter.record([0, 0], &read(0, &harmless), false, now).unwrap();
        }
        let bad = [Reject::HighHash, Reject::Malformed, Reject::HashNotZero, Reject::BadVersion];
        let mut reads = 0;
        while meter.record([0, 0], &read(0, &bad), false, now).is_ok() {
            reads += 1;
            assert!(reads < 100);
        }
        assert!(reads * 4 >= 96 && reads * 4 <= 116, "{reads}");
    }

    #[test]
    fn firmware_that_works_despite_many_refusals_is_left_alone() {
        let now = start();
        let roster = roster(now);
        let mut meter = UsageMeter::new(Arc::clone(&roster), PEER, None, now);
        for _ in 0..10_000 {
            meter.record([0, 0], &read(4, &[Reject::HighHash]), true, now).unwrap();
        }
        assert_eq!(roster.limiter().view(now).crossed, [0; 4]);
    }

    #[test]
    fn what_an_ended_connection_has_cost_is_not_forgotten() {
        let now = start();
        let roster = roster(now);
        for _ in 0..20 {
            let mut meter = UsageMeter::new(Arc::clone(&roster), PEER, None, now);
            meter.record([100, 0], &read(0, &[Reject::HighHash; 10]), false, now).unwrap();
            meter.end(now);
        }
        assert!(roster.limiter().view(now).crossed[Limit::BadShares as usize] > 0);
    }

    #[test]
    fn a_sender_of_too_much_is_read_later_and_still_owes_it() {
        let now = start();
        let roster = roster(now);
        let mut meter = UsageMeter::new(Arc::clone(&roster), PEER, None, now);
        let none = Tally::default();
        let mut sent = 0;
        while meter.pause(now).is_none() {
            meter.record([8192, 0], &none, false, now).unwrap();
            sent += 8192;
            assert!(sent < 10_000_000);
        }
        assert!(sent > 5_900_000, "a minute's worth at once");
        let until = meter.pause(now).unwrap();
        assert_eq!(until, now + HOLD_MIN);
        // It is let through when what it owes has been paid off.
        meter.record([1, 0], &none, false, until).unwrap();
        assert_eq!(meter.pause(until), None);
        assert_eq!(meter.0.unwrap().bytes, 0);
    }

    #[test]
    fn the_banned_are_told_which_limit_it_was() {
        let mut now = start();
        let roster = Roster::new(now);
        let rules = LimitRules { logins_per_minute: 10, ..LimitRules::default() };
        roster.limiter().set_rules(rules, now);
        let mut meter = UsageMeter::new(Arc::clone(&roster), PEER, None, now);
        for _ in 0..4 {
            for _ in 0..100 {
                let _ = roster.limiter().take(Limit::Logins, PEER, 1, 0, now);
            }
            now += Duration::from_secs(10);
        }
        assert_eq!(roster.limiter().view(now).banned, 1);
        let told = meter.record([100_000, 0], &read(0, &[]), false, now).unwrap_err().to_string();
        assert!(told.contains("limits.logins_per_minute"), "{told}");
        let told = meter.record([0, 0], &read(0, &[Reject::HighHash; 20]), false, now).unwrap_err();
        assert!(told.to_string().contains("limits.logins_per_minute"), "{told}");
    }
}
