use super::*;
use crate::work::Cidr;

fn rules() -> LimitRules {
    LimitRules {
        connections_per_minute: 100,
        logins_per_minute: 100,
        bad_shares_per_minute: 100,
        bytes_per_second: 1000,
        ban_first: Duration::from_secs(60),
        ban_longest: Duration::from_secs(3600),
        ..LimitRules::none()
    }
}

struct LimiterHarness {
    limiter: Limiter,
    now: Instant,
}

impl LimiterHarness {
    fn new(rules: LimitRules) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        Self { limiter: Limiter::new(rules, now), now }
    }

    fn admit(&self, from: &str) -> Result<Option<Duration>, Refused> {
        self.limiter.admit(ip(from), self.now)
    }

    fn bad(&self, from: &str, count: u32, own_proof: usize) -> Result<(), LimitCrossed> {
        self.limiter.take(Limit::BadShares, ip(from), count, own_proof, self.now)
    }

    /// Floods with bad shares for a minute; true if there is a ban afterwards.
    fn flood(&mut self, from: &str, own_proof: usize) -> bool {
        for _ in 0..60 {
            for _ in 0..10 {
                let _ = self.bad(from, 20, own_proof);
            }
            self.now += Duration::from_secs(1);
        }
        self.limiter.view(self.now).banned > 0
    }
}

fn list(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<Cidr>().unwrap().into()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Handshakes that all fail, or clients that return while there is no work, are usually a farm; and
/// turning away a banned client costs as much as refusing a connection.
#[test]
fn a_flood_of_connections_is_refused_and_never_banned() {
    let mut bench = LimiterHarness::new(rules());
    let first = (0..1000).filter(|_| bench.admit("203.0.113.7").is_ok()).count();
    assert_eq!(first, 100);
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::TooOften));
    let mut admitted = 0;
    for _ in 0..600 {
        bench.now += Duration::from_secs(1);
        admitted += (0..100).filter(|_| bench.admit("203.0.113.7").is_ok()).count();
    }
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::TooOften));
    assert!((990..=1000).contains(&admitted), "100 a minute: {admitted}");
    assert_eq!(bench.admit("203.0.113.8"), Ok(None), "a neighbour");
    let view = bench.limiter.view(bench.now);
    assert_eq!((view.banned, view.bans), (0, 0));
    assert!(view.crossed[Limit::Connections as usize] > 10_000);
}

#[test]
fn a_flooder_is_banned_and_nobody_else_is() {
    let mut bench = LimiterHarness::new(rules());
    assert!(bench.flood("203.0.113.7", 0));
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::Banned));
    assert_eq!(bench.admit("203.0.113.8"), Ok(None), "a neighbour");
    assert_eq!(bench.admit("198.51.100.1"), Ok(None));
    let view = bench.limiter.view(bench.now);
    assert_eq!((view.banned, view.bans), (1, 1));
    bench.now += Duration::from_secs(61);
    assert_eq!(bench.admit("203.0.113.7"), Ok(None), "the ban has ended");
}

/// A proxy that mines, and a flooder behind the same router.
#[test]
fn a_miner_does_not_wait_for_what_strangers_at_its_address_owe() {
    let bench = LimiterHarness::new(rules());
    let take =
        |limit, own_proof| bench.limiter.take(limit, ip("203.0.113.7"), 50, own_proof, bench.now);
    bench.limiter.prove(ip("203.0.113.7"));
    for limit in [Limit::Logins, Limit::BadShares, Limit::Bytes] {
        assert!((0..10_000).any(|_| take(limit, 0).is_err()), "{limit:?}");
        assert_eq!(take(limit, 1), Ok(()), "{limit:?}");
        assert!((0..10_000).any(|_| take(limit, 1).is_err()), "it has a limit too: {limit:?}");
    }
}

#[test]
fn a_network_has_four_times_what_an_address_has() {
    let bench = LimiterHarness::new(rules());
    let admitted = |net: &str| {
        let from = |at: u32| format!("{net}{}", at % 200);
        (0..4000).filter(|at| bench.admit(&from(*at)).is_ok()).count()
    };
    assert_eq!(admitted("203.0.113."), 400);
    assert_eq!(admitted("2001:db8::"), 400);
    assert_eq!(admitted("2001:db8:0:1::"), 400, "another /64");
}

#[test]
fn a_miner_is_not_banned_for_what_a_neighbour_does() {
    let mut bench = LimiterHarness::new(rules());
    bench.limiter.prove(ip("203.0.113.7"));
    assert!(!bench.flood("203.0.113.7", 0), "another behind the same address works");
    let crosses = (0..10).any(|_| bench.bad("203.0.113.7", 20, 0).is_err());
    assert!(crosses, "but the flooder is closed");
    assert!(bench.flood("203.0.113.7", 1), "the one who mines there is the flooder itself");
    bench.limiter.leave(ip("203.0.113.7"));
    assert!(bench.limiter.0.lock().unwrap().proven.is_empty());
    let mut bench = LimiterHarness::new(rules());
    assert!(bench.flood("203.0.113.7", 0));
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::Banned));
    assert_eq!(bench.bad("203.0.113.7", 20, 0), Err(LimitCrossed::Banned(Limit::BadShares)));
}

/// A proxy or a NAT speaks for everybody.
#[test]
fn no_limit_applies_to_a_proxy_on_this_machine_a_gateway_or_whom_the_operator_allows() {
    let gateways = vec![ip("172.17.0.1")];
    let allow = list(&["198.51.100.0/24"]);
    let mut bench = LimiterHarness::new(LimitRules { gateways, allow, ..rules() });
    for free in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "172.17.0.1", "198.51.100.9"] {
        assert!(!bench.flood(free, 0), "{free}");
        assert!((0..1000).all(|_| bench.admit(free) == Ok(None)), "{free}");
    }
    for limited in ["127.0.1.1", "172.17.0.2", "192.168.0.9"] {
        assert!(!(0..1000).all(|_| bench.admit(limited) == Ok(None)), "{limited}");
    }
}

#[test]
fn denied_addresses_are_refused_and_lists_may_have_exceptions() {
    let bench = LimiterHarness::new(LimitRules {
        allow: list(&["203.0.113.7", "10.0.0.0/8"]),
        deny: list(&["203.0.113.0/24", "10.6.0.0/16", "127.0.0.1"]),
        ..LimitRules::none()
    });
    for denied in ["203.0.113.8", "10.6.1.1", "127.0.0.1"] {
        assert_eq!(bench.admit(denied), Err(Refused::Denied), "{denied}");
        assert_eq!(bench.bad(denied, 1, 0), Err(LimitCrossed::Denied), "{denied}");
    }
    for welcome in ["203.0.113.7", "10.7.1.1", "198.51.100.1", "::1"] {
        assert_eq!(bench.admit(welcome), Ok(None), "{welcome}");
    }
}

#[test]
fn a_ban_survives_new_settings_and_ends_when_bans_are_turned_off() {
    let mut bench = LimiterHarness::new(rules());
    bench.flood("203.0.113.7", 0);
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::Banned));
    bench.limiter.set_rules(LimitRules { logins_per_minute: 7, ..rules() }, bench.now);
    assert_eq!(bench.admit("203.0.113.7"), Err(Refused::Banned));
    bench.limiter.set_rules(LimitRules { ban_first: Duration::ZERO, ..rules() }, bench.now);
    assert_eq!(bench.admit("203.0.113.7"), Ok(None));
    bench.limiter.set_rules(rules(), bench.now);
    assert!(bench.limiter.lift(Network::host(ip("203.0.113.7")), bench.now));
    assert_eq!(bench.admit("203.0.113.7"), Ok(None));
}

#[test]
fn an_address_that_used_up_its_bytes_waits_on_every_new_connection() {
    let mut bench = LimiterHarness::new(rules());
    let take = |bench: &LimiterHarness, count| {
        bench.limiter.take(Limit::Bytes, ip("203.0.113.7"), count, 0, bench.now)
    };
    assert_eq!(take(&bench, 60_000), Ok(()), "a minute's worth at once");
    assert_eq!(take(&bench, 5_000), Err(LimitCrossed::Wait(Duration::from_secs(5))));
    assert!(bench.admit("203.0.113.7").unwrap().is_some());
    bench.now += Duration::from_secs(5);
    assert_eq!(take(&bench, 4_000), Ok(()));
    bench.now += Duration::from_secs(5);
    assert_eq!(bench.admit("203.0.113.7"), Ok(None));
}

/// 4,000 miners behind one address, with the defaults.
#[test]
fn a_farm_behind_one_address_comes_back_at_once() {
    let mut bench = LimiterHarness::new(LimitRules::default());
    let farm = "203.0.113.7";
    for times in 0..2 {
        for at in 0..5000 {
            assert_eq!(bench.admit(farm), Ok(None), "{at}, {times}");
            let first_job = bench.limiter.take(Limit::Bytes, ip(farm), 9_000, 0, bench.now);
            assert_eq!(first_job, Ok(()), "{at}, {times}");
            for _ in 0..2 {
                let login = bench.limiter.take(Limit::Logins, ip(farm), 1, 0, bench.now);
                assert_eq!(login, Ok(()), "{at}, {times}");
            }
        }
        bench.now += Duration::from_secs(60);
    }
    assert_eq!(bench.limiter.view(bench.now), LimitsView::default());
}

/// The 128 bytes that open a channel bring back 16 kB where the coinbase is large: a client that
/// opens, hangs up and reconnects as fast as it can gets no more than `bytes_per_second`, and is
/// banned in the end.
#[test]
fn churn_for_large_first_jobs_is_held_to_the_limit_of_bytes() {
    let mut bench = LimiterHarness::new(LimitRules::default());
    let from = ip("203.0.113.7");
    let (mut sent, mut since_ban) = (0_u64, 0_u64);
    let take =
        |bench: &LimiterHarness, limit, count| bench.limiter.take(limit, from, count, 0, bench.now);
    for _ in 0..120_000 {
        bench.now += Duration::from_millis(1);
        // The wait comes before the first answer, and a churning client does not wait.
        let is_served = matches!(bench.admit("203.0.113.7"), Ok(None))
            && take(&bench, Limit::Logins, 1).is_ok()
            && take(&bench, Limit::Bytes, 128 + 16_384).is_ok();
        sent += u64::from(is_served) * 16_384;
        if bench.limiter.view(bench.now).bans > 0 {
            since_ban += u64::from(is_served);
        }
    }
    let most = 60 * 2_000_000 + 120 * 2_000_000;
    assert!(sent <= most, "{sent} of {most}");
    assert!(bench.limiter.view(bench.now).bans > 0 && since_ban < 12_000, "{since_ban}");
}
