//! Turns the file as written into what it means. Collects every problem before it answers.

pub(super) mod address;
mod limits;
mod miners;
mod mining;
mod node;
mod places;
mod pooling;
mod service;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::mining::chains;
#[cfg(test)]
pub(crate) use self::service::OWN_PATHS;
use super::{Config, problem::KeyProblem, raw};
use crate::{template::TemplateConfig, work::Difficulty};

/// Checks all of `raw`; the error lists all problems. Without `mining.address` nothing can be
/// mined, but everything else can be started: `complete` says whether it is required.
pub(super) fn config(raw: raw::Raw, complete: bool) -> Result<Config, Vec<KeyProblem>> {
    let mut check = Check { problems: Vec::new(), entry: None };
    let raw = Arc::new(raw);
    let config = check.config(&raw, Arc::clone(&raw));
    if raw.mining.address.is_empty() && (complete || !check.problems.is_empty()) {
        check.note::<()>("mining.address", ADDRESS_MISSING);
    }
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        _ => Err(check.problems),
    }
}

/// Collects problems. Each method returns None only after it has noted one.
struct Check {
    problems: Vec<KeyProblem>,
    /// The list and the index of the entry being checked.
    entry: Option<(&'static str, usize)>,
}

impl Check {
    fn config(&mut self, raw: &raw::Raw, written: Arc<raw::Raw>) -> Option<Config> {
        // Every part is checked before the first `?`, so that one run names all problems.
        let modifiers = self.modifiers(&raw.stratum);
        let times = self.times(raw);
        let nodes = self.nodes(&raw.node, !raw.mining.address.is_empty());
        let allow_rules = self.allow_rules(&raw.template.allow_rules);
        let address = self.mining(&raw.mining);
        let ledger = self.ledger(&raw.ledger);
        let datum = self.datum(raw, address.as_ref(), modifiers, ledger.as_ref());
        let work = self.work(raw, address.as_ref(), times, datum.as_ref());
        let api = self.api(&raw.api);
        let limits = self.limits(&raw.limits);
        let stratum = self.stratum(raw, address.as_ref(), times, api.as_ref());
        let log = self.log(&raw.log);
        Some(Config {
            path: None,
            draft: "".into(),
            written,
            template: TemplateConfig {
                nodes,
                refresh: times?.refresh,
                allow_rules: allow_rules?,
                chains: chains(address.as_ref()),
            },
            work,
            address,
            datum: datum?,
            stratum: stratum?,
            limits: limits?,
            ledger: ledger?,
            api: api?,
            log: log?,
        })
    }

    fn choice<T: Copy>(&mut self, key: &str, text: &str, known: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.note(key, &format!("\"{text}\" is not one of {}", names.join(", ")))
    }

    fn difficulty(&mut self, key: &str, value: f64) -> Option<Difficulty> {
        let difficulty = Difficulty::new(value);
        if difficulty.is_none() {
            self.note::<()>(key, &format!("{value} is not a difficulty: it must be above 0"));
        }
        difficulty
    }

    /// A path; `~` is the home folder of the user that runs gatewayd.
    fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let Some(rest) = text.strip_prefix("~/") else {
            if text.is_empty() {
                return self.note(key, "is empty");
            }
            return Some(PathBuf::from(text));
        };
        let Some(home) = std::env::var_os("HOME") else {
            return self.note(key, "begins with ~, but HOME is not set: write the full path");
        };
        Some(PathBuf::from(home).join(rest))
    }

    fn duration(&mut self, key: &str, text: &str) -> Option<Duration> {
        let duration = parse_duration(text);
        if duration.is_none() {
            self.note::<()>(
                key,
                &format!(
                    "\"{text}\" is not a duration: write a number and ms, s, m, h or d, like \
                     \"40s\""
                ),
            );
        }
        duration
    }

    /// Checks the entries of a list, so that each problem is attributed to the right one.
    fn each<T, U>(
        &mut self,
        list: &'static str,
        entries: impl IntoIterator<Item = T>,
        check: impl Fn(&mut Self, T) -> Option<U>,
    ) -> Vec<U> {
        let mut good = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            self.entry = Some((list, at));
            good.extend(check(self, entry));
        }
        self.entry = None;
        good
    }

    fn note<T>(&mut self, key: &str, what: &str) -> Option<T> {
        let entry = self.entry.and_then(|(list, at)| Some((list, at, key.strip_prefix(list)?)));
        let path =
            entry.map_or_else(|| key.into(), |(list, at, rest)| format!("{list}.{at}{rest}"));
        self.problems.push(KeyProblem { path, text: format!("{key} {what}") });
        None
    }
}

/// Reads "40s", "1500ms", "2m", "1h", "90d".
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).filter(|s| *s <= DURATION_MAX_S);
    match unit {
        "ms" => Some(Duration::from_millis(number)).filter(|d| d.as_secs() <= DURATION_MAX_S),
        "s" => seconds(1).map(Duration::from_secs),
        "m" => seconds(60).map(Duration::from_secs),
        "h" => seconds(3600).map(Duration::from_secs),
        "d" => seconds(86_400).map(Duration::from_secs),
        _ => None,
    }
}

const ADDRESS_MISSING: &str =
    "is missing: set it to your bitcoin address, which is paid for blocks found without a pool";
/// Ten years: keeps sums of clock times from overflowing.
const DURATION_MAX_S: u64 = 315_360_000;
