//! Who crossed limits, and who is banned for it, for how long.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{Limit, Network};

/// A ban that is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ban {
    pub(crate) network: Network,
    /// The limit that was crossed last.
    pub(crate) limit: Limit,
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    /// Which one of a row of bans it is: each is twice as long as the one before.
    pub(crate) row: u32,
    /// Connections that were turned away for it.
    pub(crate) refused: u64,
}

/// What a strike has led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Struck {
    Noted,
    Banned(Duration),
    /// It should be banned, but the table is full of bans.
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Offences {
    all: HashMap<Network, Offence>,
    /// Bans in force, the latest first, by when they end.
    latest: BTreeSet<(Reverse<Instant>, Network)>,
    ends: BTreeSet<(Instant, Network)>,
    bans_ever: u64,
    /// When room was last looked for: looking again too soon would find none.
    swept: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Offence {
    strikes: u32,
    struck: Instant,
    /// Earlier bans, as far as they are remembered.
    row: u32,
    /// How many of those have been forgiven since the last ban or crossing.
    forgiven: u32,
    ban: Option<Ban>,
}

impl Offence {
    fn live(&self, now: Instant) -> Option<&Ban> {
        self.ban.as_ref().filter(|ban| now < ban.until)
    }

    /// Forgives what is long past.
    fn mellow(&mut self, now: Instant) {
        if now >= self.struck + STRIKES_KEPT {
            self.strikes = 0;
        }
        let Some(ban) = &self.ban else { return };
        let quiet = now.saturating_duration_since(ban.until.max(self.struck));
        let hours = u32::try_from(quiet.as_secs() / ROW_KEPT.as_secs()).unwrap_or(u32::MAX);
        if now >= ban.until {
            // Once for each hour, however often it is looked at.
            self.row = self.row.saturating_sub(hours.saturating_sub(self.forgiven));
            self.forgiven = hours;
            if self.row == 0 {
                self.ban = None;
            }
        }
    }

    /// Offences with a lower weight are forgotten first.
    fn weight(&self) -> (u32, u32, Instant) {
        (self.row, self.strikes, self.struck)
    }
}

impl Offences {
    /// Notes that a limit was crossed. The first bans last `first`, each next one twice as long as
    /// the last, up to `longest`.
    pub(super) fn strike(
        &mut self,
        key: Network,
        limit: Limit,
        first: Duration,
        longest: Duration,
        now: Instant,
    ) -> Struck {
        self.expire(now);
        if !self.has_room(key, now) {
            return Struck::Full;
        }
        let fresh = Offence { strikes: 0, struck: now, row: 0, forgiven: 0, ban: None };
        let offence = self.all.entry(key).or_insert(fresh);
        if offence.live(now).is_some() {
            return Struck::Noted;
        }
        offence.mellow(now);
        // What happens at once counts as one crossing, however many connections take part.
        if offence.strikes > 0 && now < offence.struck + STRIKE_EACH {
            return Struck::Noted;
        }
        (offence.strikes, offence.struck, offence.forgiven) = (offence.strikes + 1, now, 0);
        if offence.strikes < STRIKES_MAX {
            return Struck::Noted;
        }
        let times = 1_u32.checked_shl(offence.row).unwrap_or(u32::MAX);
        let length = first.saturating_mul(times).min(longest.max(first)).min(LENGTH_MAX);
        offence.row += 1;
        offence.strikes = 0;
        let row = offence.row;
        let ban = Ban { network: key, limit, since: now, until: now + length, row, refused: 0 };
        self.latest.insert((Reverse(ban.since), key));
        self.ends.insert((ban.until, key));
        offence.ban = Some(ban);
        self.bans_ever += 1;
        Struck::Banned(length)
    }

    /// The limit it is banned for crossing; counts that it came.
    pub(super) fn turn_away(&mut self, key: Network, now: Instant) -> Option<Limit> {
        let offence = self.all.get_mut(&key)?;
        let ban = offence.ban.as_mut().filter(|ban| now < ban.until)?;
        ban.refused += 1;
        Some(ban.limit)
    }

    /// The latest `most`. Everybody waits meanwhile, so the others are not looked at.
    pub(super) fn bans(&mut self, most: usize, now: Instant) -> Vec<Ban> {
        self.expire(now);
        let latest = self.latest.iter().take(most);
        latest.filter_map(|(_, key)| self.all.get(key)?.live(now).cloned()).collect()
    }

    pub(super) fn banned(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.latest.len()
    }

    /// Drops the bans that have ended.
    fn expire(&mut self, now: Instant) {
        while let Some((until, key)) = self.ends.first().copied()
            && now >= until
        {
            self.ends.pop_first();
            if let Some(ban) = self.all.get(&key).and_then(|it| it.ban.as_ref()) {
                self.latest.remove(&(Reverse(ban.since), key));
            }
        }
    }

    pub(super) fn bans_ever(&self) -> u64 {
        self.bans_ever
    }

    pub(super) fn lift(&mut self, key: Network, now: Instant) -> bool {
        let Some(ban) = self.all.get(&key).and_then(|it| it.live(now)) else { return false };
        self.latest.remove(&(Reverse(ban.since), key));
        self.ends.remove(&(ban.until, key));
        self.all.remove(&key);
        true
    }

    /// Makes room for a key: those with the least against them go. A ban in force is never dropped
    /// for it.
    fn has_room(&mut self, key: Network, now: Instant) -> bool {
        if self.all.len() < BANS_MAX || self.all.contains_key(&key) {
            return true;
        }
        if self.swept.is_some_and(|swept| now < swept + SWEEP_EACH) {
            return false;
        }
        self.swept = Some(now);
        self.all.values_mut().for_each(|offence| offence.mellow(now));
        self.all.retain(|_, it| it.strikes > 0 || it.ban.is_some());
        self.forget_least(now);
        self.all.len() < BANS_MAX
    }

    fn forget_least(&mut self, now: Instant) {
        let not_live = self.all.values().filter(|it| it.live(now).is_none());
        let mut weights: Vec<_> = not_live.map(Offence::weight).collect();
        let most = (BANS_MAX - BANS_MAX / 4).saturating_sub(self.all.len() - weights.len());
        let Some(at) = weights.len().checked_sub(most.max(1)) else { return };
        let (_, least, _) = weights.select_nth_unstable(at);
        let least = *least;
        self.all.retain(|_, it| it.live(now).is_some() || it.weight() > least);
    }
}

/// Crossings that lead to a ban.
const STRIKES_MAX: u32 = 3;
/// They count at most once in this time: a farm that comes all at once crosses a limit once.
const STRIKE_EACH: Duration = Duration::from_secs(10);
/// They are forgotten after this long without another.
const STRIKES_KEPT: Duration = Duration::from_secs(600);
/// For each of these without a crossing after a ban, the next one is half as long.
const ROW_KEPT: Duration = Duration::from_secs(3600);
/// Addresses and networks that crossed a limit lately; some 10 MB.
pub(super) const BANS_MAX: usize = 1 << 16;
/// Looks at all of them.
const SWEEP_EACH: Duration = Duration::from_secs(1);
/// A year: keeps sums with the clock from overflowing.
const LENGTH_MAX: Duration = Duration::from_secs(31_536_000);

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const FIRST: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(86_400);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        Instant::now()
    }

    fn host(number: u32) -> Network {
        Network::host(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// Strikes until there is a ban; its length.
    fn offend(offences: &mut Offences, key: Network, now: &mut Instant) -> Duration {
        for _ in 0..10 {
            let struck = offences.strike(key, Limit::Logins, FIRST, LONGEST, *now);
            if let Struck::Banned(length) = struck {
                return length;
            }
            *now += STRIKE_EACH;
        }
        panic!("no ban");
    }

    #[test]
    fn a_burst_is_one_crossing_and_three_lead_to_a_ban() {
        let (mut offences, now) = (Offences::default(), start());
        for ms in 0..9_000 {
            let at = now + Duration::from_millis(ms);
            let struck = offences.strike(host(1), Limit::Logins, FIRST, LONGEST, at);
            assert_eq!(struck, Struck::Noted);
        }
        let at = |s| now + Duration::from_secs(s);
        let mut strike = |s| offences.strike(host(1), Limit::Logins, FIRST, LONGEST, at(s));
        assert_eq!(strike(10), Struck::Noted);
        assert_eq!(strike(20), Struck::Banned(FIRST));
        assert!(
            offences.turn_away(host(1), at(79)).is_some()
                && offences.turn_away(host(1), at(80)).is_none()
        );
        assert!(offences.turn_away(host(2), at(30)).is_none());
        // Rarely enough, it comes to nothing.
        for at in (1..100).map(|each| at(1000 * each)) {
            let struck = offences.strike(host(3), Limit::Logins, FIRST, LONGEST, at);
            assert_eq!(struck, Struck::Noted);
        }
    }

    #[test]
    fn bans_grow_to_the_longest_and_shrink_again_with_time() {
        let (mut offences, mut now) = (Offences::default(), start());
        let mut lengths = Vec::new();
        for _ in 0..13 {
            let length = offend(&mut offences, host(1), &mut now);
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!(lengths[..5], [60, 120, 240, 480, 960]);
        assert_eq!(lengths[11..], [86_400, 86_400]);
        now += ROW_KEPT * 11;
        assert_eq!(
            offend(&mut offences, host(1), &mut now).as_secs(),
            240,
            "11 of 13 are forgiven"
        );
        now += ROW_KEPT * 20;
        assert_eq!(offend(&mut offences, host(1), &mut now), FIRST);
    }

    #[test]
    fn a_ban_is_seen_and_lifted() {
        let (mut offences, mut now) = (Offences::default(), start());
        offend(&mut offences, host(1), &mut now);
        let _ = offences.turn_away(host(1), now);
        let bans = offences.bans(9, now);
        assert_eq!(bans.len(), 1);
        let Ban { network, until, row, refused, .. } = bans[0].clone();
        assert_eq!((network, until, row, refused), (host(1), now + FIRST, 1, 1));
        assert!(!offences.lift(host(2), now));
        assert!(offences.lift(host(1), now) && offences.turn_away(host(1), now).is_none());
        assert!(offences.bans(9, now).is_empty());
        assert_eq!(offend(&mut offences, host(1), &mut now), FIRST, "it starts over");
    }

    /// Bans that have ended make the next one longer; the flood looks for room once a second.
    #[test]
    fn earlier_bans_are_not_forgotten_for_a_crowd() {
        let (mut offences, mut now) = (Offences::default(), start());
        for _ in 0..6 {
            let length = offend(&mut offences, host(0), &mut now);
            now += length;
        }
        now += ROW_KEPT;
        for number in 1..200_000 {
            offences.strike(host(number), Limit::Bytes, FIRST, LONGEST, now);
            now += Duration::from_millis(5);
        }
        assert_eq!(offend(&mut offences, host(0), &mut now), FIRST * 32, "one of six is forgiven");
    }

    #[test]
    fn the_latest_bans_in_force_are_shown() {
        let (mut offences, mut now) = (Offences::default(), start());
        for number in 0..30 {
            offend(&mut offences, host(number), &mut now);
            now += Duration::from_millis(1);
        }
        // Each took 20 s, and lasts 60.
        assert_eq!(offences.banned(now), 3);
        let shown = |offences: &mut Offences, most, now| {
            let bans = offences.bans(most, now);
            bans.into_iter().map(|ban| ban.network).collect::<Vec<_>>()
        };
        assert_eq!(shown(&mut offences, 9, now), [host(29), host(28), host(27)]);
        assert_eq!(shown(&mut offences, 2, now), [host(29), host(28)]);
        assert!(offences.lift(host(28), now));
        assert_eq!(shown(&mut offences, 9, now), [host(29), host(27)]);
        offend(&mut offences, host(27), &mut (now + FIRST));
        assert_eq!(shown(&mut offences, 9, now + FIRST), [host(27)]);
        let later = now + LONGEST;
        assert_eq!((offences.banned(later), shown(&mut offences, 9, later)), (0, Vec::new()));
        assert!(offences.ends.is_empty() && offences.latest.is_empty());
    }

    /// Bans are never dropped under load.
    #[test]
    fn a_ban_in_force_outlives_any_crowd() {
        let (mut offences, mut now) = (Offences::default(), start());
        offend(&mut offences, host(0), &mut now);
        for number in 1..300_000 {
            offences.strike(host(number), Limit::Bytes, FIRST, LONGEST, now);
            assert!(offences.all.len() <= BANS_MAX);
            now += Duration::from_micros(10);
        }
        assert!(offences.turn_away(host(0), now).is_some());
        // Full of bans: the next offender is not banned, and no other ban is dropped for it.
        let (mut offences, now) = (Offences::default(), start());
        let at = |times| now + STRIKE_EACH * times;
        for number in 0..u32::try_from(BANS_MAX).unwrap() {
            for times in 0..STRIKES_MAX {
                offences.strike(host(number), Limit::Bytes, FIRST, LONGEST, at(times));
            }
        }
        assert_eq!(offences.banned(at(3)), BANS_MAX);
        let struck = offences.strike(host(u32::MAX), Limit::Bytes, FIRST, LONGEST, at(3));
        assert_eq!(struck, Struck::Full);
        assert!(offences.turn_away(host(0), at(3)).is_some());
        let later = at(3) + FIRST;
        let struck = offences.strike(host(u32::MAX), Limit::Bytes, FIRST, LONGEST, later);
        assert_eq!(struck, Struck::Noted, "there is room when bans have ended");
    }
}
