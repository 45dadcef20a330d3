//! Places under random load: arrivals, shares, silences and ends in random order, compared with an
//! independent model after each step.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

struct Guest {
    number: u64,
    ip: IpAddr,
    eviction: Arc<Eviction>,
    is_proven: bool,
    was_wanted: bool,
}

struct Walk {
    rng: StdRng,
    places: PlaceTable,
    limits: ConnectionLimits,
    now: Instant,
    guests: Vec<Guest>,
    came: usize,
    sent_away: usize,
    refused: usize,
}

impl Walk {
    fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let connections = rng.gen_range(2..60);
        let limits = ConnectionLimits {
            connections,
            connections_per_ip: rng.gen_range(1..=connections),
            unproven: [0, 3, 10][rng.gen_range(0..3)],
        };
        let (places, guests) = (PlaceTable::default(), Vec::new());
        Self { rng, places, limits, now, guests, came: 0, sent_away: 0, refused: 0 }
    }

    fn run(&mut self, steps: usize) {
        let busy = self.rng.gen_range(2..7);
        for _ in 0..steps {
            match self.rng.gen_range(0..10) {
                it if it < busy => self.enter(),
                7 => self.prove(),
                8 => self.leave(),
                9 => self.now += Duration::from_millis(self.rng.gen_range(0..40_000)),
                _ => self.hear(),
            }
            self.check();
        }
        for Guest { number, ip, .. } in self.guests.drain(..) {
            self.places.leave(number, ip);
        }
        self.check();
        let PlaceTable { per_ip, unproven, crowds, ages, leaving, .. } = &self.places;
        let left = [per_ip.len(), unproven.len(), crowds.len(), ages.len(), leaving.len()];
        assert_eq!(left, [0; 5], "something is left over from those who have gone");
    }

    fn address(&mut self) -> IpAddr {
        let (net, host) = (self.rng.gen_range(0..5), self.rng.gen_range(1..5));
        match self.rng.gen_bool(0.3) {
            true => IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]),
            false => IpAddr::from([10, 0, u8::try_from(net).unwrap(), u8::try_from(host).unwrap()]),
        }
    }

    fn any(&mut self) -> Option<usize> {
        (!self.guests.is_empty()).then(|| self.rng.gen_range(0..self.guests.len()))
    }

    fn enter(&mut self) {
        let (ip, eviction) = (self.address(), Arc::<Eviction>::default());
        eviction.note_connected(self.now);
        let entered = self.places.enter(ip, self.limits, &eviction, self.now);
        let (sent, is_in) = (self.see_sent_away(ip), entered.is_ok());
        assert!(sent <= usize::from(is_in), "{sent} gave way to {entered:?}");
        match entered {
            Ok(number) => {
                self.came += 1;
                let (is_proven, was_wanted) = (false, false);
                self.guests.push(Guest { number, ip, eviction, is_proven, was_wanted });
            }
            Err(refused) => self.check_refusal(ip, refused),
        }
    }

    /// Checks that whoever gives way to a newcomer from `ip` may be sent away, and counts them.
    fn see_sent_away(&mut self, ip: IpAddr) -> usize {
        let now = self.now;
        let mut sent = 0;
        for guest in &mut self.guests {
            if guest.eviction.is_requested() && !guest.was_wanted {
                guest.was_wanted = true;
                sent += 1;
                let silence = guest.eviction.silence(now);
                let is_gone = guest.ip == ip && silence >= GONE;
                assert!(!guest.is_proven || is_gone, "a miner gave way after {silence:?}");
            }
        }
        self.sent_away += sent;
        sent
    }

    fn check_refusal(&mut self, ip: IpAddr, refused: Refused) {
        self.refused += 1;
        let here = || self.guests.iter().filter(|it| !it.was_wanted);
        let from = |it: &&Guest| it.ip == ip;
        let around = |it: &&Guest| PlaceNetwork::of(it.ip) == PlaceNetwork::of(ip);
        let waits = |it: &&Guest| !it.is_proven;
        match refused {
            Refused::Full => {
                assert_eq!(here().count(), self.limits.connections);
                let is_clogged = self.places.leaving.len() >= LEAVING_MAX;
                // A crowd would have made room if the newcomer is from where fewer wait.
                let wait_there = here().filter(around).filter(waits).count();
                let crowd = self.places.crowds.last().map_or(0, |(count, _)| *count);
                let is_full_there = here().filter(from).count() >= self.limits.connections_per_ip;
                assert!(is_clogged || is_full_there || crowd <= wait_there + 1);
            }
            Refused::FullForIp => {
                assert!(here().filter(from).count() >= self.limits.connections_per_ip);
            }
            Refused::FullOfUnproven => {
                let most = self.limits.unproven;
                let (own, all) = (
                    here().filter(from).filter(waits).count(),
                    here().filter(around).filter(waits).count(),
                );
                assert!(most > 0 && (own >= most || all >= most * NETWORK_TIMES as usize));
            }
            other => panic!("{other:?}"),
        }
    }

    fn prove(&mut self) {
        let Some(at) = self.any() else { return };
        let guest = &mut self.guests[at];
        // One that is sent away may still have a share in flight.
        self.places.prove(guest.number, guest.ip);
        guest.is_proven |= !guest.was_wanted;
        guest.eviction.note_activity(self.now);
    }

    fn hear(&mut self) {
        if let Some(at) = self.any() {
            self.guests[at].eviction.note_activity(self.now);
        }
    }

    /// Those that are sent away end sooner or later, like others.
    fn leave(&mut self) {
        let Some(at) = self.any() else { return };
        let at = self.guests.iter().position(|it| it.was_wanted).unwrap_or(at);
        let guest = self.guests.swap_remove(at);
        self.places.leave(guest.number, guest.ip);
    }

    fn check(&self) {
        let here = || self.guests.iter().filter(|it| !it.was_wanted);
        let waits = |it: &&Guest| !it.is_proven;
        let ConnectionLimits { connections, connections_per_ip, unproven } = self.limits;
        assert_eq!(self.places.taken(), here().count());
        assert_eq!(self.places.unproven(), here().filter(waits).count());
        assert!(self.places.taken() <= connections, "more than there may be");
        let gone = self.guests.len() - here().count();
        assert_eq!(self.places.leaving.len(), gone);
        let mut by_ip = HashMap::<IpAddr, (usize, usize)>::new();
        let mut by_network = HashMap::<PlaceNetwork, usize>::new();
        for guest in here() {
            let count = by_ip.entry(guest.ip).or_default();
            count.0 += 1;
            count.1 += usize::from(!guest.is_proven);
            *by_network.entry(PlaceNetwork::of(guest.ip)).or_default() +=
                usize::from(!guest.is_proven);
        }
        assert_eq!(by_ip.len(), self.places.per_ip.len());
        for (ip, (all, waiting)) in by_ip {
            assert_eq!(
                (all, waiting),
                (self.places.per_ip[&ip].all.len(), self.places.per_ip[&ip].unproven)
            );
            assert!(all <= connections_per_ip && (unproven == 0 || waiting <= unproven));
        }
        by_network.retain(|_, count| *count > 0);
        let crowds: HashMap<_, _> = self.places.crowds.iter().map(|(n, it)| (*it, *n)).collect();
        assert_eq!(by_network, crowds);
        let most = unproven * NETWORK_TIMES as usize;
        assert!(unproven == 0 || by_network.values().all(|count| *count <= most));
    }
}

#[test]
fn nobody_is_miscounted_and_no_miner_gives_way_whatever_happens() {
    let mut sums = [0; 3];
    for seed in 0..80 {
        let mut walk = Walk::new(seed);
        walk.run(1000);
        for (sum, count) in sums.iter_mut().zip([walk.came, walk.sent_away, walk.refused]) {
            *sum += count;
        }
    }
    // Everything has happened often enough.
    assert!(sums.iter().all(|sum| *sum > 300), "{sums:?}");
}
