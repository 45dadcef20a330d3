//! Public bug reports about pools, gateways and firmware, each as a test. The report is named above
//! it as a GitHub repository#number.

use super::*;
use crate::work::fixture::MINTIME;

/// An answer to a request.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: &'a serde_json::value::RawValue,
    #[serde(borrow)]
    result: &'a serde_json::value::RawValue,
    #[serde(borrow)]
    error: &'a serde_json::value::RawValue,
}

/// The answer in what was sent: id, result and error, none of them left out.
#[track_caller]
fn answer(said: &str) -> Answer<'_> {
    serde_json::from_str(said.lines().next().unwrap()).expect(said)
}

impl Sv1SessionHarness {
    /// Whose difficulty never changes.
    fn steady() -> Self {
        let mut config = config();
        config.difficulty_max = Some(config.difficulty_min);
        Self::new(config, WorkFeed::new(HARD, &solo()))
    }

    /// Plays a day of repeated full work, of every kind, with a change of difficulty now and then.
    /// Whatever is sent is passed to `hear`.
    fn plays_a_day(&mut self, mut hear: impl FnMut(&mut Self, &str)) {
        let paced = Announce::Paced(Duration::from_secs(40));
        let began = self.now;
        for step in 0..90_u8 {
            self.later(35);
            let mut publish = |what, announce| {
                let mut template = template(step - step % 9, HARD, 5);
                let passed = u32::try_from((self.now - began).as_secs()).unwrap();
                Arc::get_mut(&mut template).unwrap().curtime += passed;
                self.feed.publish(what, &template, &solo(), announce);
                self.on_work()
            };
            let said = match step % 9 {
                0 => publish(BuildJob::SubsidyOnly, Announce::Now),
                1 => publish(BuildJob::Blank, Announce::Now),
                2 => publish(BuildJob::Classes, Announce::Now),
                3 => self.say(&suggest(f64::from(step) * 1e-9 + 2e-9)),
                4 => publish(BuildJob::Classes, paced),
                // A job that is paced, or repeated after silence, or none.
                5 | 6 => {
                    self.now = self.session.deadline().max(self.now);
                    self.on_deadline().unwrap()
                }
                7 => self.say(&suggest(1e-9)),
                _ => {
                    self.later(75);
                    self.on_deadline().unwrap()
                }
            };
            hear(self, &said);
        }
    }
}

fn suggest(difficulty: f64) -> String {
    format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{difficulty:e}]}}"#)
}

/// oliverw/miningcore#1695, sammy007/open-ethereum-pool#42: a pool that hangs up after bad shares
/// turns a miner's one hardware error into an outage.
#[test]
fn refused_shares_never_end_a_session() {
    let mut bench = Sv1SessionHarness::solo();
    let first = notify(&bench.say(SUBSCRIBE));
    let good = submit_line(&first, 0, first.mine(0, bench.session.difficulty()));
    let high = (0..)
        .find(|nonce| {
            let hash = sha256d::Hash::hash(&first.header(1, *nonce));
            !Target::from_difficulty(bench.session.difficulty())
                .is_met_by(&Hash256(hash.to_byte_array()))
        })
        .unwrap();
    let high = submit_line(&first, 1, high);
    assert_eq!(bench.say(&good), TRUE_9);
    let bad = [
        (good.clone(), "duplicate"),
        (high, "high-hash"),
        (good.replace(&first.ntime, "00000001"), "time-too-old"),
        (good.replace(&first.ntime, "ffffffff"), "time-too-new"),
        (good.replace("[\"w\",\"1f\"", "[\"w\",\"7\""), "unknown-work"),
        (good.replace("\"]}", "\",\"ffffffff\"]}"), "bad-version"),
        (good.replace("[\"w\"", "[7"), "malformed-submit"),
    ];
    for _ in 0..500 {
        for (line, reason) in &bad {
            let said = bench.say(line);
            assert!(said.contains(reason), "{line}: {said}");
            assert_eq!(said.lines().count(), 1);
        }
    }
    assert_eq!(bench.share(&first, 2), TRUE_9);
}

/// p2poolv2/p2poolv2#524: ESP-Miner shows "unknown" for an error that is not an array.
/// bitaxeorg/ESP-Miner#916: it waits for ever when an answer has no `error`.
#[test]
fn every_answer_has_an_id_a_result_and_an_error_that_firmware_can_read() {
    let mut bench = Sv1SessionHarness::solo();
    for (line, is_granted) in [
        (SUBSCRIBE, true),
        (r#"{"id":1,"method":"mining.authorize","params":["a","x"]}"#, true),
        (r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{}]}"#, true),
        (r#"{"id":1,"method":"mining.suggest_difficulty","params":[1]}"#, true),
        (r#"{"id":1,"method":"mining.extranonce.subscribe","params":[]}"#, true),
        (r#"{"id":1,"method":"mining.get_transactions","params":["1f"]}"#, true),
        (r#"{"id":1,"method":"mining.ping","params":[]}"#, true),
        (r#"{"id":1,"method":"mining.submit","params":["a","1f"]}"#, false),
        (
            r#"{"id":1,"method":"mining.submit","params":["a","1","0000000000000000","0","0"]}"#,
            false,
        ),
        (r#"{"id":1,"method":"mining.configure","params":7}"#, false),
        (r#"{"id":1,"method":"mining.multi_version","params":[1]}"#, false),
    ] {
        let said = bench.say(line);
        let Answer { id, result, error } = answer(&said);
        assert_eq!(id.get(), "1");
        if is_granted {
            assert!(result.get() != "null" && error.get() == "null", "{said}");
        } else {
            assert_eq!(result.get(), "null", "{said}");
            let (code, reason, ()): (i32, String, ()) = serde_json::from_str(error.get()).unwrap();
            assert!(code != 0 && !reason.is_empty(), "{said}");
        }
    }
}

/// SpiralPool/Spiral-Pool#10: an Antminer S19 counts what it still sends at the old difficulty as
/// refused, whatever the answer. cgminer applies a second difficulty before the next job to the job
/// after it (`parse_diff` in its util.c). bitaxeorg/ESP-Miner#190: a first job without a difficulty
/// is mined at a guessed one.
#[test]
fn a_difficulty_is_only_told_together_with_its_job() {
    let mut bench = Sv1SessionHarness::solo();
    let mut told = 0;
    let mut hear = |said: &str| {
        let lines: Vec<&str> = said.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.contains("\"method\":\"mining.set_difficulty\"") {
                assert!(lines[at + 1].contains("mining.notify"), "{said}");
                told += 1;
            }
        }
    };
    let said = bench.say(SUBSCRIBE);
    hear(&said);
    // A miner that never sends a share is not kept for a day.
    let job = notify(&said);
    let nonce = job.mine(0, bench.session.difficulty());
    assert_eq!(bench.submit(&job, 0, nonce), TRUE_9);
    bench.plays_a_day(|_, said| hear(said));
    assert!(told > 20, "{told}");
}

/// bitaxeorg/ESP-Miner#1603, #1694: firmware that starts from the first extranonce2 at every
/// notify, clean or not, sends everything twice if a job is repeated for a new difficulty.
#[test]
fn firmware_that_starts_over_with_each_job_never_repeats_itself() {
    let mut bench = Sv1SessionHarness::solo();
    let mut headers = std::collections::HashSet::new();
    assert!(headers.insert(notify(&bench.say(SUBSCRIBE)).header(0, 0)));
    let mut again = 0;
    let mut ids = std::collections::HashSet::new();
    bench.plays_a_day(|bench, said| {
        for job in said.lines().filter_map(parse_notify) {
            assert!(headers.insert(job.header(0, 0)), "the same work twice: {said}");
            again += usize::from(!ids.insert(job.id.clone()));
            let nonce = job.mine(0, bench.session.difficulty());
            assert_eq!(bench.submit(&job, 0, nonce), TRUE_9);
        }
    });
    assert!(again > 5, "jobs were repeated: {again}");
}

/// frstrtr/c2pool#762, zone117x/node-stratum-pool#38: each share counts at the difficulty of its own
/// job, however often that has changed since.
#[test]
fn shares_in_flight_over_many_changes_count_at_their_own_difficulty() {
    let mut bench = Sv1SessionHarness::solo();
    let mut given = vec![(notify(&bench.say(SUBSCRIBE)), bench.session.difficulty())];
    for (at, wanted) in [4e-9, 1e-9, 9e-9, 2e-9].into_iter().enumerate() {
        bench.say(&suggest(wanted));
        let said = bench.publish(1, BuildJob::Classes, Announce::Now);
        given.push((notify(&said), bench.session.difficulty()));
        for (job, difficulty) in &given {
            let nonce = job.mine(at as u64, *difficulty);
            assert_eq!(bench.submit(job, at as u64, nonce), TRUE_9);
            assert_eq!(bench.effects.shares.last().unwrap().difficulty, difficulty.get());
        }
    }
}

/// bonesoul/CoiniumServ#528: cgminer asks to resume an earlier session by its id.
#[test]
fn a_session_that_is_asked_for_again_is_a_new_one_and_says_so() {
    for resume in ["\"deadbeefcafebabe0400000000000000\"", "\"abcd0001\"", "null", "7", "{}"] {
        let line = SUBSCRIBE.replace("\"test/1\",null", &format!("\"cgminer/4.12.1\",{resume}"));
        let mut bench = Sv1SessionHarness::solo();
        let said = bench.say(&line);
        assert_eq!(said, Sv1SessionHarness::solo().say(SUBSCRIBE), "{resume}");
        assert_eq!(bench.session.user_agent(), "cgminer/4.12.1");
        let job = notify(&said);
        assert_eq!(bench.share(&job, 1), TRUE_9);
    }
    // If that does not help, it asks without parameters.
    for params in ["[]", "null", "{}", "\"cgminer\""] {
        let line = format!(r#"{{"id":1,"method":"mining.subscribe","params":{params}}}"#);
        assert_eq!(
            Sv1SessionHarness::solo().say(&line),
            Sv1SessionHarness::solo().say(SUBSCRIBE),
            "{params}"
        );
    }
}

/// benjamin-wilson/public-pool#152: NerdMiner sends its difficulty every 30 s, without an id.
#[test]
fn a_suggestion_without_an_id_is_honoured() {
    let mut bench = Sv1SessionHarness::solo();
    bench.say(SUBSCRIBE);
    let line = r#"{"method":"mining.suggest_difficulty","params":[0.00000005]}"#;
    assert_eq!(told(&bench.say(line)), Some(5e-8));
    assert_eq!(bench.later(30).say(line).lines().count(), 1, "no news");
}

/// bitaxeorg/ESP-Miner#686: miningcore's own form, which miners have adopted.
#[test]
fn a_suggestion_may_stand_without_its_list() {
    for wanted in ["0.00000005", "\"0.00000005\"", "[0.00000005]", "[\"0.00000005\",\"x\"]"] {
        let mut bench = Sv1SessionHarness::subscribed();
        let line = format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":{wanted}}}"#);
        let said = bench.say(&line);
        assert!(said.starts_with("{\"id\":4,\"result\":true"), "{wanted}: {said}");
        assert_eq!(told(&said), Some(5e-8), "{wanted}");
    }
    for nonsense in ["{}", "null", "[]", "[[1]]", "\"much\"", "-1", "0", "[null]"] {
        let line =
            format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":{nonsense}}}"#);
        assert!(
            Sv1SessionHarness::subscribed().say(&line).contains("Invalid parameters"),
            "{nonsense}"
        );
    }
}

/// BFGMiner sends a target and its capabilities before it subscribes, and takes the first line it
/// receives as the answer to the subscribe (`initiate_stratum` in its util.c): it hangs up over a
/// refusal of what needs no answer, for ever in the latter case.
#[test]
fn what_bfgminer_sends_before_its_subscribe_gets_no_line_before_its_answer() {
    let target = |difficulty: f64| {
        let mut bytes = Target::from_difficulty(Difficulty::new(difficulty).unwrap()).to_le_bytes();
        bytes.reverse();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(r#"{{"id": null, "method": "mining.suggest_target", "params": ["{hex}"]}}"#)
    };
    let capabilities = |target: &str| {
        format!(
            r#"{{"id":null,"method":"mining.capabilities","params":[{{"notify":[],"set_difficulty":{{}},"set_goal":[],"malgo":{{"SHA256d":{{}}}}{target}}}]}}"#
        )
    };
    for before in [target(1e-7), capabilities(""), capabilities(",\"suggested_target\":\"00ff\"")] {
        let mut bench = Sv1SessionHarness::solo();
        assert_eq!(bench.say(&before), "", "{before}");
        let said = bench.say(SUBSCRIBE);
        assert!(said.starts_with("{\"id\":1,\"result\":[[["), "{said}");
    }
    let mut bench = Sv1SessionHarness::solo();
    bench.say(&target(1e-7));
    let difficulty = told(&bench.say(SUBSCRIBE)).unwrap();
    assert!((difficulty / 1e-7 - 1.0).abs() < 1e-9, "{difficulty}");
    // With an id it is a request.
    let asked = target(3e-7).replace("null", "8");
    let said = bench.say(&asked);
    assert!(said.starts_with("{\"id\":8,\"result\":true,\"error\":null}\n"), "{said}");
    assert!((told(&said).unwrap() / 3e-7 - 1.0).abs() < 1e-9);
    for odd in ["\"\"", "\"xyz\"", "7", "\"00\"", &format!("\"{}\"", "0".repeat(64))] {
        let line = format!(r#"{{"id":8,"method":"mining.suggest_target","params":[{odd}]}}"#);
        assert!(bench.say(&line).contains("Invalid parameters"), "{odd}");
        assert_eq!(bench.say(&line.replace(":8", ":null")), "", "{odd}");
    }
}

/// bonesoul/CoiniumServ#1025 and #1042, cculianu/asicseer-pool#6,
/// zone117x/node-open-mining-portal#435: firmware of rental markets calls methods that do not
/// exist.
#[test]
fn methods_that_nobody_knows_are_refused_and_mining_goes_on() {
    let mut bench = Sv1SessionHarness::steady();
    let job = notify(&bench.say(SUBSCRIBE));
    for (at, method) in [
        "mining.multi_version",
        "mining.capabilities",
        "mining.set_extranonce",
        "mining.subscribe.extranonce",
        "mining.hashrate",
        "client.get_version",
        "eth_submitLogin",
        "login",
        "getblocktemplate",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let said = bench.say(&format!(r#"{{"id":6,"method":"{method}","params":[1]}}"#));
        let Answer { result, error, .. } = answer(&said);
        assert_eq!((result.get(), error.get()), ("null", "[-3,\"Method not found\",null]"));
        assert_eq!(bench.share(&job, at as u64), TRUE_9);
    }
    let said = bench.say(r#"{"id":7,"method":"mining.extranonce.subscribe","params":[]}"#);
    assert_eq!(said, "{\"id\":7,\"result\":true,\"error\":null}\n");
}

/// Stratehm/stratum-proxy#12 ("Already authorized"), cbuchner1/CudaMiner#117 (one every 45 s, to
/// stay connected), oliverw/miningcore#164: a proxy logs all its workers in on one connection.
#[test]
fn many_names_may_log_in_on_one_connection_again_and_again() {
    let mut bench = Sv1SessionHarness::steady();
    let job = notify(&bench.say(SUBSCRIBE));
    let names =
        ["bc1q.a", "bc1q.b", ".A01", "bc1q.a/b c", "bc1q_a", "J\u{fc}rgen.\u{26cf}", "bc1q.a.b"];
    for round in 0..20 {
        for (at, name) in names.into_iter().enumerate() {
            let line = format!(r#"{{"id":2,"method":"mining.authorize","params":["{name}","x"]}}"#);
            assert_eq!(bench.say(&line), "{\"id\":2,\"result\":true,\"error\":null}\n");
            let extranonce2 = round * 10 + at as u64;
            let nonce = job.mine(extranonce2, bench.session.difficulty());
            let share = submit_line(&job, extranonce2, nonce);
            assert_eq!(bench.say(&share.replace("[\"w\"", &format!("[\"{name}\""))), TRUE_9);
            assert_eq!(&*bench.effects.shares.last().unwrap().username.0, name);
        }
    }
}

/// warioishere/blitzpool#69, slush0/stratum-mining-proxy#53: there is work before a login, after one,
/// and without one.
#[test]
fn work_waits_for_no_login() {
    let mut never = Sv1SessionHarness::solo();
    let job = notify(&never.say(SUBSCRIBE));
    assert_eq!(never.share(&job, 0), TRUE_9);
    let mut first = Sv1SessionHarness::solo();
    let login = r#"{"id":2,"method":"mining.authorize","params":["u","x"]}"#;
    assert_eq!(first.say(login), "{\"id\":2,\"result\":true,\"error\":null}\n");
    let job = notify(&first.say(SUBSCRIBE));
    assert_eq!(first.share(&job, 0), TRUE_9);
}

/// DigiByte-Core/digibyte#419: a node that signals with a bit that miners roll loses half of all
/// shares, because firmware treats those bits as its own. 256foundation/mujina accepts no such job
/// at all (`VersionTemplate::new` in job_source/version.rs).
#[test]
fn bits_that_a_node_signals_with_are_kept_apart_from_those_that_roll() {
    let mut bench = Sv1SessionHarness::solo();
    bench.say(SUBSCRIBE);
    let mut signalling = template(2, HARD, 5);
    Arc::get_mut(&mut signalling).unwrap().version = 0x3080_2001;
    bench.feed.publish(BuildJob::Classes, &signalling, &solo(), Announce::Now);
    let job = notify(&bench.on_work());
    assert_eq!(job.version, "20000001");
    for (extranonce2, rolled) in [0x0080_2000, 0x1000_0000, 0x1fff_e000, 0].into_iter().enumerate()
    {
        let extranonce2 = extranonce2 as u64;
        let version = format!("{:08x}", 0x2000_0001 | rolled);
        let mined = Notify { version, ..job.clone() };
        let nonce = mined.mine(extranonce2, bench.session.difficulty());
        let line = submit_line(&job, extranonce2, nonce);
        let line = line.replace("\"]}", &format!("\",\"{rolled:08x}\"]}}"));
        assert_eq!(bench.say(&line), TRUE_9, "{rolled:08x}");
        assert_eq!(bench.effects.shares.last().unwrap().version, 0x2000_0001 | rolled);
    }
}

/// slush0/stratum-mining#11, bitcoin/bitcoin#8024, parasitepool/para#330,
/// stratum-mining/stratum#2299, benjamin-wilson/public-pool#131: miners roll the time forward, some
/// by hours; a node accepts two.
#[test]
fn the_time_may_be_rolled_as_far_as_a_node_accepts() {
    let mut bench = Sv1SessionHarness::solo();
    let job = notify(&bench.say(SUBSCRIBE));
    for (extranonce2, (ntime, said)) in [
        (CURTIME + 7200, "true"),
        (CURTIME + 7201, "time-too-new"),
        (CURTIME + 600, "true"),
        (MINTIME, "true"),
        (MINTIME - 1, "time-too-old"),
        (u32::MAX, "time-too-new"),
        (0, "time-too-old"),
    ]
    .into_iter()
    .enumerate()
    {
        let rolled = Notify { ntime: format!("{ntime:08x}"), ..job.clone() };
        assert!(bench.share(&rolled, extranonce2 as u64).contains(said), "{ntime}");
    }
}

/// stratum-mining/sv2-apps#382: a Bitaxe on its backup pool probes its first pool once a minute,
/// and goes back if the first 1,023 bytes it receives contain `mining.notify` (`probe_pool_v1` in
/// its protocol_coordinator.c).
#[test]
fn a_bitaxe_on_its_backup_learns_at_once_that_there_is_work() {
    let mut bench = Sv1SessionHarness::solo();
    let said = bench.say(r#"{"id": 1, "method": "mining.subscribe", "params": ["BM1370"]}"#);
    assert!(said[..said.len().min(1023)].contains("mining.notify"), "{said}");
    assert!(said.lines().next().unwrap().contains("mining.notify"), "in whatever packet is first");
}

/// bitaxeorg/ESP-Miner#41, BitMaker-hub/NerdMiner_v2#221: firmware does not know
/// `client.reconnect`, or drops its backup pools because of it.
#[test]
fn nothing_is_sent_at_the_end() {
    let mut bench = Sv1SessionHarness::subscribed();
    bench.out.clear();
    stratum::Protocol::on_stop(&mut bench.session, &mut bench.out);
    assert_eq!(bench.heard(), "");
}

/// BitMaker-hub/NerdMiner_v2#822 and #750: it omits leading zeros, so that ckpool refuses one share
/// in sixteen. #763: 1.7.0 replaces them with spaces, and hashes those as zeros (`hex` in its
/// utils.cpp).
#[test]
fn zeros_may_be_missing_or_spaces() {
    let mut bench = Sv1SessionHarness::solo();
    let job = notify(&bench.say(SUBSCRIBE));
    let nonce = job.mine(0xb, bench.session.difficulty());
    assert!(nonce < 0x1000_0000);
    let line = submit_line(&job, 0xb, nonce);
    let short = line.replace(&format!("\"{nonce:08x}\""), &format!("\"{nonce:x}\""));
    let spaced = short.replace("\"000000000000000b\"", "\"               b\"");
    assert_ne!(spaced, short);
    assert_eq!(bench.say(&spaced), TRUE_9);
    assert!(bench.say(&short).contains("duplicate"), "it is the same share");
    assert!(bench.say(&line).contains("duplicate"));
    for odd in ["b               ", "                ", "0 0 0 0 0 0 0 0b", "             - b"] {
        let said = bench.say(&line.replace("000000000000000b", odd));
        let is_zero = odd.trim().is_empty();
        assert!(said.contains(if is_zero { "high-hash" } else { "malformed-submit" }), "{odd:?}");
    }
}

/// Some firmware sends hex digits in capitals.
#[test]
fn capital_digits_are_digits() {
    let mut bench = Sv1SessionHarness::solo();
    let job = notify(&bench.say(SUBSCRIBE));
    let extranonce2 = 0xabcd_ef01_2345_6789;
    let nonce = (0..)
        .map(|above| job.mine_from(above * 0x0100_0000, extranonce2, bench.session.difficulty()))
        .find(|nonce| format!("{nonce:x}").contains(|digit: char| digit.is_ascii_lowercase()))
        .unwrap();
    let line = submit_line(&job, extranonce2, nonce);
    let (head, fields) = line.split_at(line.find("\"w\",").unwrap() + 4);
    assert_eq!(bench.say(&format!("{head}{}", fields.to_ascii_uppercase())), TRUE_9);
}

impl Notify {
    fn mine_from(&self, first: u32, extranonce2: u64, difficulty: Difficulty) -> u32 {
        find_nonce(&self.header(extranonce2, 0), first, &Target::from_difficulty(difficulty))
    }
}
