//! Miners as they are: what their firmware sends that no specification has.

use super::*;

fn suggest(difficulty: f64) -> String {
    format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{difficulty:e}]}}"#)
}

/// NerdMiner and others repeat theirs to keep the connection alive.
#[test]
fn a_suggestion_that_is_repeated_changes_nothing() {
    let mut bench = Sv1SessionHarness::subscribed();
    assert_eq!(told(&bench.say(&suggest(1e-8))), Some(1e-8));
    for _ in 0..12 {
        bench.later(5);
        assert_eq!(bench.say(&suggest(1e-8)).lines().count(), 1);
    }
    bench.on_deadline().unwrap();
    assert_eq!(bench.session.difficulty().get(), 5e-9, "it was silent for a minute");
    bench.say(&suggest(1e-8));
    assert_eq!(told(&bench.publish(2, BuildJob::Classes, Announce::Now)), Some(5e-9));
    bench.say(&suggest(2e-8));
    assert_eq!(bench.session.difficulty().get(), 2e-8, "a different one counts");
}

/// BIP 310: true promises bits to roll, and at least as many as were asked for.
#[test]
fn version_rolling_is_granted_only_with_enough_bits() {
    for (values, granted) in [
        (r#""version-rolling.mask":"00000000""#, None),
        (r#""version-rolling.mask":"e0001fff""#, None),
        (r#""version-rolling.mask":"00c00000","version-rolling.min-bit-count":3"#, None),
        (r#""version-rolling.mask":"00c00000","version-rolling.min-bit-count":"3""#, None),
        (r#""version-rolling.min-bit-count":17"#, None),
        (
            r#""version-rolling.mask":"ffffffff","version-rolling.min-bit-count":16"#,
            Some("1fffe000"),
        ),
        (
            r#""version-rolling.mask":"00c00000","version-rolling.min-bit-count":2"#,
            Some("00c00000"),
        ),
        (
            r#""version-rolling.mask":"00c00000","version-rolling.min-bit-count":-1"#,
            Some("00c00000"),
        ),
        // Braiins OS has been seen to send something that is not a number.
        (
            r#""version-rolling.mask":"1fffe000","version-rolling.min-bit-count":[]"#,
            Some("1fffe000"),
        ),
        ("", Some("1fffe000")),
    ] {
        let mut bench = Sv1SessionHarness::solo();
        let line = format!(
            r#"{{"id":2,"method":"mining.configure","params":[["version-rolling"],{{{values}}}]}}"#
        );
        let result = granted.map_or_else(
            || r#"{"version-rolling":false}"#.into(),
            |mask| format!(r#"{{"version-rolling":true,"version-rolling.mask":"{mask}"}}"#),
        );
        let answer = format!("{{\"id\":2,\"result\":{result},\"error\":null}}\n");
        assert_eq!(bench.say(&line), answer, "{values}");
        let told = bench.say(SUBSCRIBE).contains("mining.set_version_mask");
        assert_eq!(told, granted.is_some(), "{values}");
    }
}

impl Sv1SessionHarness {
    fn say_bytes(&mut self, bytes: &[u8]) -> Result<String, Closing> {
        self.out.clear();
        let Self { session, feed, now, out, effects } = self;
        let mut inbox = bytes.to_vec();
        stratum::Protocol::on_bytes(session, &mut inbox, &feed.work, *now, out, effects)?;
        Ok(self.heard())
    }
}

/// `strlen() + 1` bytes are sent, or a name is typed on a machine that knows no UTF-8.
#[test]
fn nuls_around_a_line_and_latin_1_within_it_are_tolerated() {
    let mut bench = Sv1SessionHarness::solo();
    let subscribed = bench.say_bytes(&[SUBSCRIBE.as_bytes(), b"\0\r\n\0"].concat()).unwrap();
    let plain = notify(&subscribed);
    let authorize =
        b"\0{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"J\xfcrgen\",\"x\"]}\n";
    assert!(bench.say_bytes(authorize).unwrap().starts_with("{\"id\":2,\"result\":true"));
    assert_eq!(bench.say_bytes(b"\0\n \0\0\n").unwrap(), "");
    let line = submit_line(&plain, 1, plain.mine(1, bench.session.difficulty()));
    let line: Vec<u8> = line
        .replace("[\"w\"", "[\"J\x01rgen\"")
        .bytes()
        .map(|it| if it == 1 { 0xfc } else { it })
        .collect();
    assert_eq!(bench.say_bytes(&[&line[..], b"\n"].concat()).unwrap(), TRUE_9);
    assert_eq!(&*bench.effects.shares[0].username.0, "Jürgen");
    let odd = b"{\"id\":3,\"method\":\"mining.\xff\x80\",\"params\":[]}\n";
    assert!(bench.say_bytes(odd).unwrap().contains("Method not found"));
    assert!(
        bench.say_bytes(b"\xff\xfe no JSON\n").is_err(),
        "what is not JSON still ends the session"
    );
}

#[test]
fn a_null_in_a_submit_moves_no_other_field() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    let line = |extranonce2| {
        submit_line(&plain, extranonce2, plain.mine(extranonce2, Difficulty::new(1e-9).unwrap()))
    };
    assert_eq!(bench.say(&line(1).replace("[\"w\"", "[null")), TRUE_9);
    assert_eq!(&*bench.effects.shares[0].username.0, "bc1qnobody");
    assert_eq!(bench.say(&line(2).replace("\"]}", "\",null]}")), TRUE_9, "no version bits");
    let ntime = format!("\"{}\"", plain.ntime);
    let without_time = line(3).replace(&ntime, "null");
    assert!(bench.say(&without_time).contains("[20,\"malformed-submit\",null]"));
    let without_extranonce = line(3).replace("\"0000000000000003\"", "null");
    assert!(bench.say(&without_extranonce).contains("[20,\"malformed-submit\",null]"));
}

#[test]
fn an_extranonce2_is_called_too_long_only_when_it_is() {
    let mut bench = Sv1SessionHarness::solo();
    let plain = notify(&bench.say(SUBSCRIBE));
    let good = submit_line(&plain, 0, 0);
    for (extranonce2, answer) in [
        ("000000000000000g", "[20,\"malformed-submit\",null]"),
        ("0x00000000000000", "[20,\"malformed-submit\",null]"),
        ("000000000000000", "[20,\"bad-extranonce2-size\",null]"),
        ("00000000", "[20,\"bad-extranonce2-size\",null]"),
        ("00000000000000000000", "[20,\"bad-extranonce2-size\",null]"),
    ] {
        assert!(bench.say(&good.replace("0000000000000000", extranonce2)).contains(answer));
    }
}

/// On testnet4 a block of difficulty 1 is allowed at times: a miner that is asked for 16,384 would
/// throw it away.
#[test]
fn no_miner_is_asked_for_more_than_a_block_takes() {
    let with = |nbits, payout: &Arc<crate::work::Payout>| {
        Sv1SessionHarness::new(Config::with_address("bc1qnobody"), WorkFeed::new(nbits, payout))
    };
    let mut bench = with(HARD, &solo());
    assert_eq!(told(&bench.say(SUBSCRIBE)), Some(1.0));
    assert_eq!(told(&bench.say(&suggest(5000.0))), None, "nor is it if it asks for it");
    // A harder tip, then an easier one again: each brings its difficulty along, at once.
    let pace = Announce::Paced(Duration::from_secs(30));
    bench.feed.publish(BuildJob::Classes, &template(2, 0x1b00_ffff, 5), &solo(), pace);
    assert_eq!(told(&bench.on_work()), Some(16_384.0));
    bench.feed.publish(BuildJob::Classes, &template(3, HARD, 5), &solo(), pace);
    assert_eq!(told(&bench.on_work()), Some(1.0));
    // A pool accepts nothing below its floor.
    assert_eq!(told(&with(HARD, &pooled(64)).say(SUBSCRIBE)), Some(64.0));
    // Regtest: a block is worth nothing there, and a flood of them does not help.
    assert_eq!(told(&with(EASY, &solo()).say(SUBSCRIBE)), Some(1.0));
}

/// cgminer takes 90 s of silence for a dead connection, whatever `template.refresh` is.
#[test]
fn a_job_is_repeated_before_firmware_hangs_up() {
    let mut slow = config();
    slow.refresh = Duration::from_secs(900);
    let mut bench = Sv1SessionHarness::new(slow, WorkFeed::new(HARD, &solo()));
    let first = notify(&bench.say(SUBSCRIBE));
    let begun = bench.now;
    let mut heard = bench.now;
    let mut ntime = first.ntime.clone();
    while bench.now < begun + Duration::from_secs(800) {
        bench.now = bench.session.deadline();
        let said = bench.on_deadline().unwrap();
        if !said.contains("mining.notify") {
            continue;
        }
        assert!(bench.now - heard <= Duration::from_secs(80), "{:?}", bench.now - heard);
        heard = bench.now;
        let again = notify(&said);
        assert_eq!((&again.id, &again.coinb1, again.clean), (&first.id, &first.coinb1, false));
        assert!(again.ntime > ntime, "the same header twice would be the same work twice");
        ntime.clone_from(&again.ntime);
        assert_eq!(bench.share(&again, 7), TRUE_9);
    }
    assert!(heard > begun + Duration::from_secs(700));
    assert_eq!(bench.share(&first, 7), TRUE_9, "what was in flight counts");
}

fn login(password: &str) -> String {
    format!(r#"{{"id":5,"method":"mining.authorize","params":["bc1qme.rig",{password:?}]}}"#)
}

/// Solo, on a chain where blocks are hard to find.
fn roomy(config: Config) -> Sv1SessionHarness {
    Sv1SessionHarness::new(config, WorkFeed::new(FAR, &solo()))
}

#[test]
fn a_password_sets_the_difficulty_within_the_operators_rules() {
    let mut config = Config::with_address("bc1qnobody");
    config.difficulty_max = Difficulty::new(1e6);
    for (password, first, later) in [
        ("x", 16_384.0, 1e6),
        ("d=65536", 65_536.0, 1e6),
        ("d=1", 16_384.0, 1e6),
        ("x,diff=2M", 1e6, 1e6),
        ("fd=65536;x", 65_536.0, 65_536.0),
    ] {
        // Before the subscribe or after it.
        let mut early = roomy(config.clone());
        early.say(&login(password));
        assert_eq!(told(&early.say(SUBSCRIBE)), Some(first), "{password}");
        let mut bench = roomy(config.clone());
        let mut heard = told(&bench.say(SUBSCRIBE));
        let said = bench.say(&login(password));
        assert!(said.starts_with("{\"id\":5,\"result\":true,\"error\":null}\n"), "{said}");
        heard = told(&said).or(heard);
        assert_eq!(heard, Some(first), "{password}");
        assert_eq!(
            bench.say(&login(password)).lines().count(),
            1,
            "the same request again changes nothing"
        );
        // Neither a suggestion nor silence changes it.
        bench.say(&suggest(1e12));
        assert_eq!(bench.session.difficulty().get(), later, "{password}");
        bench.say(&suggest(1.0));
        for _ in 0..10 {
            bench.later(60).on_deadline().unwrap();
        }
        assert_eq!(bench.session.difficulty().get(), first, "{password}");
    }
}

#[test]
fn a_workers_difficulty_in_the_settings_overrides_its_requests() {
    let mut config = Config::with_address("bc1qnobody");
    config.worker_difficulty.insert("bc1qme.rig".into(), Difficulty::new(5000.0).unwrap());
    let mut bench = roomy(config.clone());
    bench.say(SUBSCRIBE);
    assert_eq!(told(&bench.say(&login("fd=65536"))), Some(5000.0));
    bench.say(&suggest(1e6));
    assert_eq!(bench.session.difficulty().get(), 5000.0);
    // Removed while it mines, and put back.
    config.worker_difficulty.clear();
    let without = Arc::new(config.clone());
    stratum::Protocol::on_config(&mut bench.session, &without, &bench.feed.work, bench.now);
    assert_eq!(bench.session.difficulty().get(), 65_536.0);
    config.worker_difficulty.insert("bc1qme.rig".into(), Difficulty::new(7.0).unwrap());
    let with = Arc::new(config);
    stratum::Protocol::on_config(&mut bench.session, &with, &bench.feed.work, bench.now);
    assert_eq!(bench.session.difficulty().get(), 7.0);
    let mut other = roomy(Config::with_address("bc1qnobody"));
    other.say(SUBSCRIBE);
    assert_eq!(told(&other.say(&login("x"))), None);
}

#[test]
fn a_request_below_the_floor_is_reported_to_the_operator() {
    let mut bench = roomy(Config::with_address("bc1qnobody"));
    bench.say(SUBSCRIBE);
    bench.say(&suggest(20_000.0));
    let recent =
        |bench: &Sv1SessionHarness| bench.session.origin.roster.client_mistakes().recent(bench.now);
    assert_eq!(recent(&bench), []);
    bench.say(&suggest(1000.0));
    let odd = recent(&bench).remove(0);
    assert_eq!(odd.mistake.code(), "difficulty-wish");
    let text = format!("{}: {}", odd.mistake, odd.mistake.advice());
    assert!(text.contains("1000") && text.contains("16384") && text.contains("[[stratum.port]]"));
    let mut bench = Sv1SessionHarness::new(config(), WorkFeed::new(FAR, &pooled(64)));
    bench.say(SUBSCRIBE);
    bench.say(&login("d=2"));
    assert!(recent(&bench).remove(0).mistake.advice().contains("the pool takes no less"));
}

/// `fd=1` on a rented farm, or a missing zero in the settings.
#[test]
fn a_flood_at_a_fixed_difficulty_is_ended_and_reported() {
    for (is_set, advice) in [(true, "stratum.worker_difficulty"), (false, "fd=")] {
        let mut config = config();
        let fixed = Difficulty::new(1e-9).unwrap();
        if is_set {
            config.worker_difficulty.insert("bc1qme.rig".into(), fixed);
        }
        let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(FAR, &solo()));
        let job = notify(&bench.say(SUBSCRIBE));
        let password = if is_set { "x" } else { "fd=1e-9" };
        bench.say(&login(password));
        let mut extranonce2 = 0;
        let mut sends = |bench: &mut Sv1SessionHarness, shares: u32, each_ms| {
            for _ in 0..shares {
                bench.now += Duration::from_millis(each_ms);
                extranonce2 += 1;
                let nonce = job.mine(extranonce2, fixed);
                let said = bench.submit(&job, extranonce2, nonce);
                assert!(said.starts_with(TRUE_9), "{said}");
                if said != TRUE_9 {
                    return said;
                }
            }
            String::new()
        };
        // Five a second is many, but somebody wants them.
        assert_eq!(sends(&mut bench, 600, 200), "");
        assert_eq!(sends(&mut bench, 599, 25), "");
        let said = sends(&mut bench, 1, 25);
        assert!((told(&said).unwrap() / 4e-8 - 1.0).abs() < 1e-9, "one a second: {said}");
        assert!(notify(&said).id.starts_with('Q'), "{said}");
        assert_eq!(sends(&mut bench, 700, 25), "", "what was in flight counts, and no more");
        let odd = bench.session.origin.roster.client_mistakes().recent(bench.now).remove(0);
        assert_eq!(odd.mistake.code(), "difficulty-flood");
        assert!(odd.mistake.to_string().contains("sends 40 shares a second"), "{}", odd.mistake);
        assert!(odd.mistake.advice().contains(advice), "{}", odd.mistake.advice());
        // As long as the request is the same; a different one gets its own chance.
        bench.say(&login(password));
        assert!(bench.session.difficulty() > fixed);
        let mut other = Config::clone(&bench.session.config);
        if is_set {
            other.worker_difficulty.insert("bc1qme.rig".into(), Difficulty::new(2e-9).unwrap());
        } else {
            bench.say(&login("fd=2e-9"));
        }
        let other = Arc::new(other);
        stratum::Protocol::on_config(&mut bench.session, &other, &bench.feed.work, bench.now);
        bench.publish(1, BuildJob::Classes, Announce::Now);
        assert_eq!(bench.session.terms.lift, None);
    }
}

/// A pool that accepts fewer bits than BIP 320's would refuse shares that use the others; wider
/// masks are for Stratum V2.
#[test]
fn no_more_bits_are_granted_than_the_pool_accepts() {
    for (pools, granted) in
        [(0x1fff_e000, "1fffe000"), (0x1fff_ffe0, "1fffe000"), (0x00ff_e000, "00ffe000")]
    {
        let mut config = config();
        config.pooled_version_mask = pools;
        let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &pooled(0)));
        let said = bench.say(
            r#"{"id":2,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
        );
        assert!(said.contains(&format!("\"version-rolling.mask\":\"{granted}\"")), "{said}");
        let job = notify(&bench.say(SUBSCRIBE));
        for (extranonce2, bits) in [0x2000, 0x1000_0000, 0x20].into_iter().enumerate() {
            let version = format!("{:08x}", 0x2000_0000 | bits);
            let rolled = Notify { version, ..job.clone() };
            let extranonce2 = extranonce2 as u64;
            let nonce = rolled.mine(extranonce2, bench.session.difficulty());
            let line = submit_line(&job, extranonce2, nonce);
            let said = bench.say(&line.replace("\"]}", &format!("\",\"{bits:08x}\"]}}")));
            let is_granted = u32::from_str_radix(granted, 16).unwrap() & bits == bits;
            assert_eq!(said == TRUE_9, is_granted, "{bits:x} of {pools:x}: {said}");
            assert!(is_granted || said.contains("bad-version"));
        }
    }
}
