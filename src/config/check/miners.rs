//! Kinds of miners: [stratum.sv2], [[stratum.class]].

use std::time::Duration;

use super::Check;
use crate::config::{Class, Sv2, raw};

impl Check {
    pub(super) fn sv2(&mut self, raw: &raw::Sv2) -> Option<Sv2> {
        let key = "stratum.sv2.certificate_lifetime";
        let certificate_lifetime = self.duration(key, &raw.certificate_lifetime)?;
        if certificate_lifetime < CERTIFICATE_LIFETIME_MIN {
            return self.note(key, "is too short: clocks differ by minutes; set at least \"10m\"");
        }
        let file = &raw.authority_key_file;
        let authority_key_file = if file.is_empty() {
            None
        } else {
            Some(self.path("stratum.sv2.authority_key_file", file)?)
        };
        Some(Sv2 { authority_key_file, certificate_lifetime })
    }

    pub(super) fn class(&mut self, raw: raw::Class) -> Option<Class> {
        if raw.pattern.is_empty() {
            return self.note("stratum.class.match", "is empty: it would match every miner");
        }
        let difficulty_min = if raw.difficulty_min == 0.0 {
            None
        } else {
            Some(self.difficulty("stratum.class.difficulty_min", raw.difficulty_min)?)
        };
        Some(Class { pattern: raw.pattern, max_coinbase: raw.max_coinbase, difficulty_min })
    }
}

const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(600);
