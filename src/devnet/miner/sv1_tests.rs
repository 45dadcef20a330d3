use super::*;
use crate::devnet::miner::scan::Cursor;

struct Bench {
    session: Sv1MinerSession,
    stats: MinerStats,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(&MinerOptions::default())
    }

    /// Logged in, with a version mask.
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn with(options: &MinerOptions) -> Self {
        let session = Sv1MinerSession::open(options, 0, &mut String::new());
        let mut bench = Self { session, stats: MinerStats::default(), now: Instant::now() };
        bench.hear(
            r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"}}"#,
        );
        bench.hear(r#"{"id":2,"result":[[],"01020304",8],"error":null}"#);
        bench.hear(r#"{"id":3,"result":true,"error":null}"#);
        bench.hear(r#"{"id":null,"method":"mining.set_difficulty","params":[1e-9]}"#);
        bench
    }

    fn try_hear(&mut self, line: &str) -> Result<String, Sv1MinerClose> {
        let mut out = String::new();
        self.session.on_line(line.as_bytes(), self.now, &mut self.stats, &mut out)?;
        Ok(out)
    }

    fn hear(&mut self, line: &str) -> String {
        self.try_hear(line).unwrap()
    }

    fn job(&mut self, id: &str, prevhash: char, clean: bool) {
        let prevhash = prevhash.to_string().repeat(64);
        self.hear(&format!(
            r#"{{"id":null,"method":"mining.notify","params":["{id}","{prevhash}","00","11",[],"20000000","207fffff","66000000",{clean}]}}"#
        ));
    }

    fn solve(&self) -> Found {
        let mut found = Vec::new();
        Cursor::default().scan(self.session.work().unwrap(), 4096, &mut found);
        found.swap_remove(0)
    }

    fn submit(&mut self, found: &Found) -> String {
        let mut out = String::new();
        self.session.on_found(found, self.now, &mut self.stats, &mut out);
        out
    }

    fn stale(&mut self, id: u64) {
        self.hear(&format!(r#"{{"id":{id},"result":null,"error":[21,"stale-prevblk",null]}}"#));
    }

    #[track_caller]
    fn counts(&self, accepted: u64, rejected: u64, late: u64) {
        let MinerStats { accepted: a, rejected: r, late: l, .. } = self.stats;
        assert_eq!((a, r, l), (accepted, rejected, late));
    }
}

#[test]
fn a_share_is_submitted_in_full_and_accepted() {
    let mut bench = Bench::new();
    bench.job("a1", '1', true);
    let found = bench.solve();
    let line = bench.submit(&found);
    assert!(line.starts_with(r#"{"id":10,"method":"mining.submit","params":["miner","a1","0000000000000000","66000000",""#));
    assert!(line.ends_with("\",\"00000000\"]}\n"), "{line}");
    bench.hear(r#"{"id":10,"result":true,"error":null}"#);
    bench.counts(1, 0, 0);
    assert!(bench.session.is_settled());
}

#[test]
fn a_stale_answer_after_the_clean_job_is_late() {
    let mut bench = Bench::new();
    bench.job("1", '1', true);
    let found = bench.solve();
    bench.submit(&found);
    bench.job("2", '2', true);
    bench.stale(10);
    bench.counts(0, 0, 1);
}

#[test]
fn a_stale_answer_before_the_clean_job_is_late_once_that_comes() {
    let mut bench = Bench::new();
    bench.job("1", '1', true);
    let found = bench.solve();
    bench.submit(&found);
    bench.stale(10);
    bench.counts(0, 0, 0);
    assert!(!bench.session.is_settled());
    bench.job("2", '2', true);
    bench.counts(0, 0, 1);
    assert!(bench.session.is_settled());
}

#[test]
fn a_stale_answer_that_nothing_explains_is_a_reject() {
    for explanation in [None, Some(('2', false)), Some(('1', true))] {
        let mut bench = Bench::new();
        bench.job("1", '1', true);
        let found = bench.solve();
        bench.submit(&found);
        bench.stale(10);
        // Neither a job that is not clean nor one on the same block explains it.
        if let Some((prevhash, clean)) = explanation {
            bench.job("2", prevhash, clean);
        }
        bench.now = bench.session.deadline().unwrap();
        bench.session.on_deadline(bench.now, &mut bench.stats).unwrap();
        bench.counts(0, 1, 0);
        assert_eq!(bench.stats.rejects["21 stale-prevblk"], 1);
    }
}

#[test]
fn a_wrong_ntime_is_never_late_and_other_rejects_have_their_text() {
    let mut bench = Bench::new();
    bench.job("1", '1', true);
    let found = bench.solve();
    bench.submit(&found);
    bench.submit(&found);
    bench.job("2", '2', true);
    bench.hear(r#"{"id":10,"result":null,"error":[21,"time-too-old",null]}"#);
    bench.hear(r#"{"id":11,"result":null,"error":[23,"high-hash",null]}"#);
    bench.counts(0, 2, 0);
    assert_eq!(bench.stats.rejects["23 high-hash"], 1);
}

#[test]
fn nothing_is_sent_for_work_that_a_clean_job_replaced() {
    let mut bench = Bench::new();
    bench.job("1", '1', true);
    let old = bench.solve();
    bench.job("2", '1', false);
    assert_ne!(bench.submit(&old), "");
    bench.job("3", '1', true);
    assert_eq!(bench.submit(&old), "");
    assert_eq!(bench.stats.discarded, 1);
}

#[test]
fn difficulty_and_extranonce_apply_from_the_next_job_and_the_mask_at_once() {
    let mut bench = Bench::new();
    bench.job("1", '1', true);
    bench.hear(r#"{"id":null,"method":"mining.set_difficulty","params":[2.5]}"#);
    bench.hear(r#"{"id":null,"method":"mining.set_extranonce","params":["0a0b",4]}"#);
    bench.hear(r#"{"id":null,"method":"mining.set_version_mask","params":["00006000"]}"#);
    let work = bench.session.work().unwrap();
    assert_eq!((work.difficulty, work.version_mask), (1e-9, Some(0x6000)));
    assert_eq!(work.extranonce.extranonce1, [1, 2, 3, 4]);
    bench.job("2", '1', false);
    let work = bench.session.work().unwrap();
    assert_eq!(work.difficulty, 2.5);
    assert_eq!(work.extranonce.extranonce1, [10, 11]);
    assert_eq!(work.extranonce.extranonce2_len, 4);
}

#[test]
fn version_rolling_must_be_asked_for_and_granted() {
    let options = MinerOptions { version_rolling: false, ..MinerOptions::default() };
    let mut out = String::new();
    Sv1MinerSession::open(&options, 0, &mut out);
    assert!(!out.contains("mining.configure"));

    let mut out = String::new();
    let session = Sv1MinerSession::open(&MinerOptions::default(), 0, &mut out);
    assert!(out.starts_with(r#"{"id":1,"method":"mining.configure""#));
    let mut bench = Bench { session, ..Bench::new() };
    bench.hear(r#"{"id":1,"result":{"version-rolling":false},"error":null}"#);
    bench.hear(r#"{"id":2,"result":[[],"01020304",8],"error":null}"#);
    bench.hear(r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#);
    bench.hear(r#"{"id":null,"method":"mining.set_difficulty","params":[1e-9]}"#);
    bench.job("1", '1', true);
    assert_eq!(bench.session.work().unwrap().version_mask, None);
    let found = bench.solve();
    assert_eq!(bench.submit(&found).matches(',').count(), 6, "five parameters");
}

#[test]
fn a_refused_login_and_a_lost_answer_end_the_connection() {
    let mut bench = Bench::new();
    let refused = r#"{"id":3,"result":null,"error":[24,"unauthorized-worker",null]}"#;
    assert!(matches!(bench.try_hear(refused), Err(Sv1MinerClose::Refused("authorize", _))));
    assert!(bench.try_hear("nonsense").is_err());
    bench.job("1", '1', true);
    let found = bench.solve();
    bench.submit(&found);
    bench.now = bench.session.deadline().unwrap();
    let silent = bench.session.on_deadline(bench.now, &mut bench.stats);
    assert!(matches!(silent, Err(Sv1MinerClose::Silent(_))));
    bench.session.on_end(&mut bench.stats);
    assert_eq!(bench.stats.unanswered, 1);
}

#[test]
fn pings_are_answered() {
    let mut bench = Bench::new();
    let answer = bench.hear(r#"{"id":"x","method":"mining.ping","params":[]}"#);
    assert_eq!(answer, "{\"id\":\"x\",\"result\":\"pong\",\"error\":null}\n");
}
