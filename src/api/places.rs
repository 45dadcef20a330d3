//! Shares out limited places: when they run out, the address with the most gives one up, its oldest
//! first. So nobody can take them all, and nobody is refused because somebody tried. Pure.

use std::{collections::HashMap, net::IpAddr};

/// Who has which place, by address.
#[derive(Debug)]
pub(super) struct Places<T> {
    most: usize,
    next: u64,
    taken: HashMap<u64, Place<T>>,
}

#[derive(Debug)]
struct Place<T> {
    ip: IpAddr,
    thing: T,
}

impl<T> Places<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: 0, taken: HashMap::new() }
    }

    /// A place for somebody at `ip`, and which one has to go for it. `is_idle` tells which ones are
    /// idle: they go before others of the same address.
    pub(super) fn enter(
        &mut self,
        ip: IpAddr,
        thing: T,
        is_idle: impl Fn(&T) -> bool,
    ) -> (u64, Option<T>) {
        let full = self.taken.len() >= self.most;
        let evicted = if full { self.victim(ip, is_idle) } else { None };
        let evicted = evicted.and_then(|id| self.taken.remove(&id)).map(|place| place.thing);
        let id = self.next;
        self.next += 1;
        self.taken.insert(id, Place { ip, thing });
        (id, evicted)
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.taken.remove(&id);
    }

    pub(super) fn things(&self) -> impl Iterator<Item = (u64, &T)> {
        self.taken.iter().map(|(id, place)| (*id, &place.thing))
    }

    /// One of the address that has the most, counting the new one.
    fn victim(&self, newcomer: IpAddr, is_idle: impl Fn(&T) -> bool) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::from([(newcomer, 1)]);
        for place in self.taken.values() {
            *counts.entry(place.ip).or_default() += 1;
        }
        let count = |place: &Place<T>| counts.get(&place.ip).copied().unwrap_or(0);
        let worst = self.taken.iter().max_by_key(|(id, place)| {
            (count(place), is_idle(&place.thing), std::cmp::Reverse(**id))
        });
        worst.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    #[test]
    fn whoever_has_most_gives_a_place_back_oldest_first() {
        let mut places = Places::new(4);
        for (n, last) in [(0, 1), (1, 2), (2, 2), (3, 2)] {
            assert_eq!(places.enter(ip(last), n, |_| false).1, None);
        }
        // One stranger cannot take what others have, however often he comes.
        assert_eq!(places.enter(ip(2), 4, |_| false).1, Some(1));
        assert_eq!(places.enter(ip(3), 5, |_| false).1, Some(2));
        let mut left: Vec<_> = places.things().map(|(_, thing)| *thing).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 3, 4, 5]);
    }

    #[test]
    fn who_does_nothing_goes_before_who_is_served() {
        let mut places = Places::new(3);
        for n in 0..3 {
            places.enter(ip(1), n, |_| false);
        }
        assert_eq!(places.enter(ip(1), 3, |n| *n == 2).1, Some(2));
        let (id, _) = places.enter(ip(2), 4, |_| false);
        places.leave(id);
        assert_eq!(places.enter(ip(2), 5, |_| false).1, None);
    }
}
