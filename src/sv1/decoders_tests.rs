//! Mining programs that each read Stratum in their own way: how they log in, what they make of a
//! job, and when they start over. Based on the facts of each source.

use std::collections::VecDeque;

use super::*;

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// ckolivas/cgminer 4.11.1, built for version rolling: util.c.
    Cgminer,
    /// luke-jr/bfgminer 5.5.0, with `--request-diff` and `#goalreset`: util.c, miner.c.
    Bfgminer,
    /// pooler/cpuminer 2.5.1, minerd: util.c, cpu-miner.c.
    Minerd,
    /// JayDDee/cpuminer-opt of January 2026: util.c, cpu-miner.c.
    CpuminerOpt,
    /// 256foundation/mujina of August 2026: mujina-miner/src/stratum_v1 and job_source.
    Mujina,
}

const KINDS: [Kind; 5] =
    [Kind::Cgminer, Kind::Bfgminer, Kind::Minerd, Kind::CpuminerOpt, Kind::Mujina];

impl Kind {
    fn agent(self) -> &'static str {
        match self {
            Self::Cgminer => "cgminer/4.11.1",
            Self::Bfgminer => "bfgminer/5.5.0",
            Self::Minerd => "cpuminer/2.5.1",
            Self::CpuminerOpt => "cpuminer-opt-25.7-x64L",
            Self::Mujina => "mujina-miner/0.1.0-alpha",
        }
    }

    /// Sizes of extranonce2 that it accepts. cgminer logs in with 16 and then submits nothing above
    /// 8.
    fn extranonce2_len(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Cgminer => 2..=8,
            Self::Bfgminer => 1..=usize::MAX,
            Self::Minerd => 1..=100,
            Self::CpuminerOpt => 2..=16,
            Self::Mujina => 1..=8,
        }
    }

    /// It hangs up after this many seconds without a line: `stratum_rthread`, `stratum_thread`, and
    /// cpuminer-opt's `opt_timeout`.
    fn patience(self) -> u64 {
        match self {
            Self::Cgminer => 90,
            Self::Minerd => 120,
            Self::CpuminerOpt => 300,
            Self::Bfgminer | Self::Mujina => 120,
        }
    }

    fn target(self, difficulty: f64) -> Target {
        match self {
            // `set_target`: what a double can hold, word by word.
            Self::Cgminer => words_of(65_535.0 * 2f64.powi(208) / difficulty),
            // Whole difficulties are those of 2^224 there, and one share in 65,536 too easy for
            // everybody else; `bdiff_to_pdiff` in miner.h for the others.
            Self::Bfgminer if difficulty.fract() == 0.0 => words_of(2f64.powi(224) / difficulty),
            Self::Bfgminer => words_of(2f64.powi(224) / (difficulty * 1.000_015_258_7)),
            // `diff_to_target`: 64 bits at one of seven places.
            Self::Minerd => {
                let (mut place, mut rest) = (6, difficulty);
                while place > 0 && rest > 1.0 {
                    rest /= 4_294_967_296.0;
                    place -= 1;
                }
                let mut bytes = [0; 32];
                let bits = whole(4_294_901_760.0 / rest).to_le_bytes();
                bytes[4 * place..4 * place + 8].copy_from_slice(&bits);
                Target::from_le_bytes(&bytes)
            }
            // `diff_to_hash`: 2^224 too.
            Self::CpuminerOpt => words_of(2f64.powi(224) / difficulty),
            Self::Mujina => Target::from_difficulty(Difficulty::new(difficulty).unwrap()),
        }
    }
}

/// A number of up to 256 bits, as precise as a double is.
fn words_of(mut value: f64) -> Target {
    let mut bytes = [0; 32];
    for place in (0..4).rev() {
        let unit = 2f64.powi(64 * i32::try_from(place).unwrap());
        let word = whole(value / unit);
        value -= word as f64 * unit;
        bytes[8 * place..8 * place + 8].copy_from_slice(&word.to_le_bytes());
    }
    Target::from_le_bytes(&bytes)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the programs do")]
const fn whole(value: f64) -> u64 {
    value as u64
}

/// A line as jansson reads it. A zero byte would end it: everything received is measured with
/// `strlen`.
#[derive(Deserialize)]
struct Heard<'a> {
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    result: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

/// All that mujina accepts: `JsonRpcMessage` in its messages.rs.
#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "what counts is that it can be read")]
enum Strict<'a> {
    RpcRequest { id: Option<u64>, method: &'a str, params: serde::de::IgnoredAny },
    Response { id: u64 },
}

/// A job as a program keeps it.
#[derive(Clone)]
struct Job {
    notify: Notify,
    /// With a gap for extranonce2, filled with zeros.
    coinbase: Vec<u8>,
    gap: usize,
    difficulty: f64,
}

struct Program {
    kind: Kind,
    inbox: VecDeque<String>,
    extranonce1: Vec<u8>,
    extranonce2_len: usize,
    /// cgminer's `next_diff` and `diff_after`: one for each notify to come.
    stacked: VecDeque<f64>,
    difficulty: f64,
    extranonce2: u64,
    /// The latest job.
    job: Option<Job>,
    /// What is being hashed: minerd goes on with that while ids stay the same.
    work: Option<Job>,
}

impl Program {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            inbox: VecDeque::new(),
            extranonce1: Vec::new(),
            extranonce2_len: 0,
            stacked: VecDeque::new(),
            difficulty: 1.0,
            extranonce2: 0,
            job: None,
            work: None,
        }
    }

    fn ask(&mut self, bench: &mut Sv1SessionHarness, line: &str) {
        let said = bench.say(line);
        self.comes(&said);
    }

    fn comes(&mut self, said: &str) {
        assert!(!said.contains('\0'));
        if self.kind == Kind::Mujina {
            for line in said.lines() {
                serde_json::from_str::<Strict<'_>>(line).expect(line);
            }
        }
        self.inbox.extend(said.lines().map(str::to_owned));
    }

    /// The next line, whatever it is, taken as the answer.
    #[track_caller]
    fn next_as_answer(&mut self) -> String {
        let line = self.inbox.pop_front().expect("there is no answer");
        let heard: Heard<'_> = serde_json::from_str(&line).unwrap();
        let is_error = heard.error.is_some_and(|error| error.get() != "null");
        assert!(heard.result.is_some() && !is_error, "{:?} hangs up over {line}", self.kind);
        line
    }

    /// Handles what arrives unasked before the next answer.
    #[track_caller]
    fn next_answer(&mut self) -> String {
        while self.inbox.front().is_some_and(|line| line.contains("\"method\"")) {
            self.hear_one();
        }
        self.next_as_answer()
    }

    fn hear_all(&mut self) {
        while !self.inbox.is_empty() {
            self.hear_one();
        }
    }

    fn hear_one(&mut self) {
        let line = self.inbox.pop_front().unwrap();
        let heard: Heard<'_> = serde_json::from_str(&line).unwrap();
        let params = heard.params.map(|params| params.get()).unwrap_or_default();
        match heard.method {
            Some("mining.notify") => self.on_notify(serde_json::from_str(params).expect(&line)),
            Some("mining.set_difficulty") => {
                let (difficulty,) = serde_json::from_str::<(f64,)>(params).expect(&line);
                assert!(difficulty > 0.0);
                self.stacked.push_back(difficulty);
            }
            Some("mining.set_version_mask") => {
                let (mask,) = serde_json::from_str::<(String,)>(params).expect(&line);
                assert_eq!(mask.len(), 8);
            }
            Some(other) => panic!("none of the programs knows {other}"),
            None => {}
        }
    }

    fn log_in(&mut self, bench: &mut Sv1SessionHarness) {
        let kind = self.kind;
        let agent = kind.agent();
        if kind == Kind::Bfgminer {
            let mut target = kind.target(1e-9).to_le_bytes();
            target.reverse();
            let target = hex(&target);
            self.ask(
                bench,
                &format!(
                    r#"{{"id": null, "method": "mining.suggest_target", "params": ["{target}"]}}"#
                ),
            );
            self.ask(
                bench,
                r#"{"id":null,"method":"mining.capabilities","params":[{"notify":[],"set_difficulty":{},"set_goal":[],"malgo":{"SHA256d":{}}}]}"#,
            );
        }
        if matches!(kind, Kind::Cgminer | Kind::Mujina) {
            // cgminer leaves a pool that does not grant it, `configure_stratum_mining`.
            let mask = if kind == Kind::Cgminer { "ffffffff" } else { "1fffe000" };
            self.ask(
                bench,
                &format!(
                    r#"{{"id": 1, "method": "mining.configure", "params": [["version-rolling"], {{"version-rolling.mask": "{mask}"}}]}}"#
                ),
            );
            let answer = self.next_as_answer();
            assert!(answer.contains("\"version-rolling\":true"), "{answer}");
            assert!(answer.contains("\"version-rolling.mask\":\"1fffe000\""), "{answer}");
        }
        self.ask(
            bench,
            &format!(r#"{{"id": 2, "method": "mining.subscribe", "params": ["{agent}"]}}"#),
        );
        let answer = self.next_as_answer();
        self.on_subscribed(&answer);
        let id = if kind == Kind::Bfgminer { "\"auth\"" } else { "3" };
        self.ask(
            bench,
            &format!(r#"{{"id": {id}, "method": "mining.authorize", "params": ["u.w", "x"]}}"#),
        );
        let answer = self.next_answer();
        assert!(answer.contains("\"result\":true"), "{answer}");
        if kind == Kind::CpuminerOpt {
            self.ask(bench, r#"{"id": 3, "method": "mining.extranonce.subscribe", "params": []}"#);
            assert_eq!(self.next_as_answer(), "{\"id\":3,\"result\":true,\"error\":null}");
        }
        self.begin();
        self.hear_all();
    }

    #[track_caller]
    fn on_subscribed(&mut self, answer: &str) {
        #[derive(Deserialize)]
        struct Answer {
            result: (serde::de::IgnoredAny, String, usize),
        }
        let (_, extranonce1, extranonce2_len) =
            serde_json::from_str::<Answer>(answer).unwrap().result;
        self.extranonce1 = unhex(&extranonce1);
        assert!(self.kind.extranonce2_len().contains(&extranonce2_len), "{extranonce2_len}");
        self.extranonce2_len = extranonce2_len;
        self.stacked.clear();
        self.difficulty = 1.0;
    }

    /// After a login, minerd and the like start with the last job they received, on whichever
    /// connection.
    fn begin(&mut self) {
        self.work.clone_from(&self.job);
    }

    fn on_notify(&mut self, notify: Notify) {
        check(&notify);
        // For all but cgminer they take effect at once, and the last one counts.
        if self.kind == Kind::Cgminer {
            self.difficulty = self.stacked.pop_front().unwrap_or(self.difficulty);
        } else {
            self.difficulty = self.stacked.drain(..).next_back().unwrap_or(self.difficulty);
        }
        let is_same = self.job.as_ref().is_some_and(|job| job.notify.id == notify.id);
        let begins_anew = match self.kind {
            Kind::Cgminer => notify.clean,
            Kind::Bfgminer | Kind::Mujina => true,
            // `strcmp(sctx->job.job_id, job_id)`.
            Kind::Minerd | Kind::CpuminerOpt => !is_same,
        };
        if begins_anew {
            self.extranonce2 = 0;
        }
        let mut coinbase = [unhex(&notify.coinb1), self.extranonce1.clone()].concat();
        let gap = coinbase.len();
        coinbase.resize(gap + self.extranonce2_len, 0);
        coinbase.extend(unhex(&notify.coinb2));
        if self.kind == Kind::CpuminerOpt {
            assert_eq!(height_in(&coinbase), notify_height(&coinbase));
        }
        if self.kind == Kind::Mujina {
            let version = u32::from_str_radix(&notify.version, 16).unwrap();
            assert_eq!(version & 0x1fff_e000, 0, "it accepts no such job");
        }
        self.job = Some(Job { notify, coinbase, gap, difficulty: self.difficulty });
        if self.kind != Kind::Minerd || !is_same || self.work.is_none() {
            self.work.clone_from(&self.job);
        }
    }

    /// A share of the work at hand, submitted.
    fn share(&mut self, bench: &mut Sv1SessionHarness) -> String {
        let Job { notify, mut coinbase, gap, difficulty } = self.work.clone().unwrap();
        let extranonce2 = self.extranonce2.to_le_bytes();
        self.extranonce2 += 1;
        coinbase[gap..gap + 8].copy_from_slice(&extranonce2);
        let version = match self.kind {
            // Two bits are rolled: `vmask_001`.
            Kind::Cgminer | Kind::Mujina => {
                u32::from_str_radix(&notify.version, 16).unwrap() | 0x6000
            }
            _ => u32::from_str_radix(&notify.version, 16).unwrap(),
        };
        let rolled = Notify { version: format!("{version:08x}"), ..notify };
        let nonce = find_nonce(&rolled.header_of(&coinbase, 0), 0, &self.kind.target(difficulty));
        let (id, ntime, extranonce2) = (&rolled.id, &rolled.ntime, hex(&extranonce2));
        let bits = if version & 0x6000 == 0 { "" } else { ", \"00006000\"" };
        bench.say(&format!(
            r#"{{"params": ["u.w", "{id}", "{extranonce2}", "{ntime}", "{nonce:08x}"{bits}], "id": 9, "method": "mining.submit"}}"#
        ))
    }
}

/// What all of them together demand of a job: `parse_notify`, `stratum_notify`,
/// `from_stratum_params`.
#[track_caller]
fn check(notify: &Notify) {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_bytes = |text: &str| !text.is_empty() && text.len().is_multiple_of(2) && is_hex(text);
    assert!(!notify.id.is_empty() && notify.id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(notify.prevhash.len() == 64 && is_hex(&notify.prevhash));
    assert!(is_bytes(&notify.coinb1) && is_bytes(&notify.coinb2));
    assert!(notify.branches.iter().all(|branch| branch.len() == 64 && is_hex(branch)));
    for word in [&notify.version, &notify.nbits, &notify.ntime] {
        assert!(word.len() == 8 && is_hex(word), "{word}");
    }
}

/// cpuminer-opt's `getblocheight`: what follows the first run of 0xff in the coinbase.
fn height_in(coinbase: &[u8]) -> u32 {
    let mut rest = coinbase[32..].iter().skip_while(|byte| **byte != 0xff);
    let len = rest.by_ref().find(|byte| **byte != 0xff).map(|_script_len| rest.next().unwrap());
    let bytes = rest.take(usize::from(*len.unwrap()));
    bytes.enumerate().fold(0, |sum, (at, byte)| sum | u32::from(*byte) << (8 * at))
}

/// As in BIP 34.
fn notify_height(coinbase: &[u8]) -> u32 {
    let transaction: bitcoin::Transaction = bitcoin::consensus::deserialize(coinbase).unwrap();
    let script = transaction.input[0].script_sig.to_bytes();
    script[1..=usize::from(script[0])].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn bench_of(kind: Kind, bytes: usize, splits: usize, most: f64) -> Sv1SessionHarness {
    let mut config = config();
    config.difficulty_max = Difficulty::new(most);
    let own = stratum::ClassRule::within(&format!("^{}", kind.agent()), bytes, None);
    config.classes = stratum::Classes::new(true, vec![own]);
    let mut bench = Sv1SessionHarness::new(config, WorkFeed::new(HARD, &pooled(1, splits)));
    bench.feed.publish(BuildJob::Classes, &template(1), &pooled(1, splits), Announce::Now);
    bench
}

fn suggest(difficulty: f64) -> String {
    format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{difficulty:e}]}}"#)
}

#[test]
fn every_program_mines_on_every_class_and_kind_of_work() {
    for kind in KINDS {
        for bytes in [255, 500, 755, 2250, 6500, 16_000] {
            for splits in SPLITS {
                let mut bench = bench_of(kind, bytes, splits, 2e-9);
                let mut program = Program::new(kind);
                program.log_in(&mut bench);
                assert_eq!(program.share(&mut bench), TRUE_9, "{kind:?} {bytes} {splits}");
                for (tip, what) in [
                    (2, BuildJob::SubsidyOnly),
                    (2, BuildJob::Blank),
                    (2, BuildJob::Classes),
                    (2, BuildJob::Classes),
                    (3, BuildJob::Classes),
                ] {
                    let said = publish(&mut bench, tip, splits, what);
                    program.comes(&said);
                    program.hear_all();
                    for _ in 0..2 {
                        assert_eq!(program.share(&mut bench), TRUE_9, "{kind:?} {tip} {what:?}");
                    }
                }
            }
        }
    }
}

/// Changes of difficulty, repeated jobs, and a message before they lose patience.
#[test]
fn every_program_keeps_up_with_its_difficulty_and_its_job() {
    for kind in KINDS {
        let mut bench = bench_of(kind, 6500, 6, 1e-7);
        let mut program = Program::new(kind);
        program.log_in(&mut bench);
        for wanted in [3e-9, 1e-9, 8e-9] {
            program.ask(&mut bench, &suggest(wanted));
            program.hear_all();
            // The second change of a job waits for the next.
            let mut heard = bench.now;
            for _ in 0..4 {
                assert_eq!(program.share(&mut bench), TRUE_9, "{kind:?} at {wanted}");
                bench.now = bench.session.deadline().max(bench.now);
                let said = bench.on_deadline().unwrap();
                if !said.is_empty() {
                    assert!(bench.now - heard < Duration::from_secs(kind.patience()), "{kind:?}");
                    heard = bench.now;
                }
                program.comes(&said);
                program.hear_all();
                let held = program.work.as_ref().unwrap().difficulty;
                assert!(Some(held) == bench.session.told.map(Difficulty::get), "{kind:?}: {held}");
            }
            let said = publish(&mut bench, 1, 6, BuildJob::Classes);
            program.comes(&said);
            program.hear_all();
        }
    }
}

/// JayDDee/cpuminer-opt#180, zcash/zcash#2381: after a reconnect the same job has another
/// extranonce1, and a program that went by its id alone would hash the old one. So the job is sent
/// before the answer to the login, at which they start.
#[test]
fn the_same_job_on_a_new_connection_is_mined_in_its_own_space() {
    for kind in KINDS {
        let mut bench = bench_of(kind, 6500, 6, 1e-7);
        let mut program = Program::new(kind);
        program.log_in(&mut bench);
        let (id, space) = (program.job.clone().unwrap().notify.id, program.extranonce1.clone());
        for round in 2..5 {
            let origin = Origin::standalone([0xab, 0xcd, 0, round], bench.now);
            let config = Arc::clone(&bench.session.config);
            bench.session = Sv1Session::new(config, origin, &bench.feed.work, bench.now);
            program.log_in(&mut bench);
            assert_eq!(program.job.as_ref().unwrap().notify.id, id);
            assert_ne!(program.extranonce1, space);
            for _ in 0..3 {
                assert_eq!(program.share(&mut bench), TRUE_9, "{kind:?}");
            }
        }
    }
}
