//! A Stratum V1 miner.

use gatewayd::work::{Difficulty, Hash256, JobId, Target};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    chance::Chance,
    lane::{Expected, Lane, RigJob, Root},
};

pub struct V1 {
    pub lane: Lane,
    name: String,
    next_id: u32,
    pub is_subscribed: bool,
    mask: u32,
    difficulty: Option<f64>,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u32>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<(i32, String, ())>,
}

type Notify = (String, String, String, String, Vec<String>, String, String, String, bool);

impl V1 {
    pub fn new(name: String) -> Self {
        let lane = Lane::default();
        Self { lane, name, next_id: 100, is_subscribed: false, mask: 0, difficulty: None }
    }

    /// What it sends first.
    pub fn greet(&mut self, chance: &mut Chance) -> Vec<u8> {
        let mut out = String::new();
        if chance.one_in(2) {
            self.mask = 0x1fff_e000;
            out.push_str(
                "{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
                 {\"version-rolling.mask\":\"1fffe000\",\"version-rolling.min-bit-count\":2}]}\n",
            );
        }
        out.push_str("{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"sim/1.0\"]}\n");
        out.push_str(&format!(
            "{{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"{}\",\"x\"]}}\n",
            self.name
        ));
        if chance.one_in(4) {
            out.push_str(
                "{\"id\":4,\"method\":\"mining.suggest_difficulty\",\"params\":[0.00000001]}\n",
            );
        }
        out.into_bytes()
    }

    /// A submit, and its number.
    pub fn submit(&mut self, now: u64, chance: &mut Chance) -> Option<(u32, Vec<u8>)> {
        let mut claim = self.lane.mine(now, self.mask, chance)?;
        let mut id = claim.wire.to_string();
        let mut extranonce2 = hex(&claim.extranonce2);
        let kind = chance.below(60);
        match kind {
            0 => id = "ffffffffff".into(),
            1 => extranonce2.push_str("00"),
            _ => {}
        }
        claim.is_broken = kind < 2;
        let (ntime, nonce) = (claim.ntime, claim.nonce);
        let version = match self.mask {
            0 => String::new(),
            mask => format!(",\"{:08x}\"", claim.version & mask),
        };
        self.next_id += 1;
        let number = self.next_id;
        self.lane.sent.insert(number, claim);
        let line = format!(
            "{{\"id\":{number},\"method\":\"mining.submit\",\"params\":[\"{}\",\"{id}\",\
             \"{extranonce2}\",\"{ntime:08x}\",\"{nonce:08x}\"{version}]}}\n",
            self.name
        );
        Some((number, line.into_bytes()))
    }

    /// Takes what the gateway sends, which arrives at `here_at`.
    pub fn receive(&mut self, bytes: &[u8], now: u64, here_at: u64) {
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "half a line");
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line<'_> = serde_json::from_slice(line)
                .unwrap_or_else(|why| panic!("{why}: {}", line.escape_ascii()));
            match (line.method, line.id) {
                (Some("mining.notify"), None) => self.on_notify(&line, now, here_at),
                (Some("mining.set_difficulty"), None) => {
                    let [difficulty]: [f64; 1] =
                        serde_json::from_str(line.params.unwrap().get()).unwrap();
                    self.difficulty = Some(difficulty);
                }
                (Some(_), None) => {}
                (None, Some(2)) => self.on_subscribed(&line),
                (None, Some(id)) if id > 100 => self.on_answer(id, &line),
                (None, Some(_)) => {}
                // The answer to an empty line.
                (None, None) => {}
                (Some(method), Some(_)) => panic!("a call: {method}"),
            }
        }
    }

    fn on_subscribed(&mut self, line: &Line<'_>) {
        let result = line.result.unwrap().get();
        let (_, prefix, len): (&RawValue, String, usize) = serde_json::from_str(result).unwrap();
        assert_eq!(len, 8);
        self.lane.prefix = unhex(&prefix);
        self.is_subscribed = true;
    }

    fn on_answer(&mut self, id: u32, line: &Line<'_>) {
        let due = self.lane.due.remove(&id).expect("an answer to what was not sent, or twice");
        let accepted = line.result.is_some_and(|result| result.get() == "true");
        assert_eq!(accepted, line.error.is_none());
        self.lane.count(due.expected, accepted, line.error.as_ref().map(|error| &*error.1));
    }

    fn on_notify(&mut self, line: &Line<'_>, now: u64, here_at: u64) {
        let (id, prevhash, coinb1, coinb2, branches, version, nbits, ntime, _): Notify =
            serde_json::from_str(line.params.unwrap().get()).unwrap();
        let ntime = number(&ntime);
        if let Some(known) = self.lane.jobs.iter_mut().find(|job| *job.wire == *id) {
            // A repeat during a long silence.
            assert!(ntime >= known.ntime, "work that was done before");
            known.ntime = ntime;
            return;
        }
        let mut prev = unhex(&prevhash);
        prev.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let difficulty = Difficulty::new(self.difficulty.expect("told before work")).unwrap();
        let branches = branches.iter().map(|branch| hash(&unhex(branch))).collect();
        self.lane.give(RigJob {
            job: JobId(number(id.trim_start_matches(['Q', 'N']))),
            wire: id.into(),
            version: number(&version),
            prevhash: hash(&prev),
            nbits: number(&nbits),
            ntime,
            root: Root::Parts {
                coinb1: unhex(&coinb1).into(),
                coinb2: unhex(&coinb2).into(),
                branches,
            },
            target: Target::from_difficulty(difficulty),
            given_at: now,
            here_at,
        });
    }
}

impl Lane {
    /// Checks that a share was judged as it must be.
    pub fn count(&mut self, expected: Expected, accepted: bool, why: Option<&str>) {
        let agrees = accepted == (expected == Expected::Accepted);
        assert!(agrees, "expected {expected:?}, and it was {accepted}, {why:?}");
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }
}

pub fn hash(bytes: &[u8]) -> Hash256 {
    Hash256(bytes.try_into().unwrap())
}

fn number(hex: &str) -> u32 {
    u32::from_str_radix(hex, 16).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    faster_hex::hex_string(bytes)
}

fn unhex(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).unwrap();
    bytes
}
