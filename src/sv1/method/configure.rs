//! `mining.configure` (BIP 310): extensions asked for, and what is granted.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::suggest_difficulty::Wire;
use crate::{
    sv1::{error::write_result, hex::parse_hex_u32, message::RpcRequest},
    work::Difficulty,
};

/// What the miner asked for. At most one answer per extension, however often it is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::sv1) struct Configure {
    /// The mask granted; if none, see `refuses_rolling`.
    pub(in crate::sv1) version_mask: Option<u32>,
    /// Rolling was asked for, but with fewer bits than the miner needs, or none.
    refuses_rolling: bool,
    /// Some(None): asked for without a number that could be granted.
    pub(in crate::sv1) minimum_difficulty: Option<Option<Difficulty>>,
    subscribe_extranonce: bool,
    info: bool,
}

impl Configure {
    /// None when the parameters are not a list of names, perhaps followed by their values. Of the
    /// version bits, no more than `rollable` are granted.
    pub(in crate::sv1) fn read(request: &RpcRequest<'_>, rollable: u32) -> Option<Self> {
        let Params { names, values } = request.params()?;
        let mut configure = Self::default();
        for name in names {
            match name {
                Name::VersionRolling => {
                    let mask = values.version_mask.unwrap_or(rollable) & rollable;
                    let is_enough = mask != 0 && mask.count_ones() >= values.bits_min;
                    configure.version_mask = is_enough.then_some(mask);
                    configure.refuses_rolling = !is_enough;
                }
                Name::MinimumDifficulty => {
                    configure.minimum_difficulty = Some(values.minimum_difficulty);
                }
                Name::SubscribeExtranonce => configure.subscribe_extranonce = true,
                Name::Info => configure.info = true,
                // Not answered: in BIP 310 a missing answer means no.
                Name::Unknown => {}
            }
        }
        Some(configure)
    }

    pub(in crate::sv1) fn write_answer(&self, id: &[u8], out: &mut Vec<u8>) {
        let mut result = String::with_capacity(128);
        let mut separator = '{';
        let mut add = |name: &str, value: fmt::Arguments<'_>| {
            result.push(separator);
            separator = ',';
            // Writing to a string cannot fail.
            let _ = fmt::write(&mut result, format_args!("\"{name}\":{value}"));
        };
        if let Some(mask) = self.version_mask {
            add("version-rolling", format_args!("true"));
            add("version-rolling.mask", format_args!("\"{mask:08x}\""));
        }
        if self.refuses_rolling {
            add("version-rolling", format_args!("false"));
        }
        if let Some(difficulty) = self.minimum_difficulty {
            add("minimum-difficulty", format_args!("{}", difficulty.is_some()));
        }
        if self.subscribe_extranonce {
            add("subscribe-extranonce", format_args!("true"));
        }
        if self.info {
            add("info", format_args!("true"));
        }
        result.push_str(if separator == '{' { "{}" } else { "}" });
        write_result(id, result.as_bytes(), out);
    }
}

/// `[[names], {values}]`; the values may be missing.
struct Params {
    names: Vec<Name>,
    values: Values,
}

enum Name {
    VersionRolling,
    MinimumDifficulty,
    SubscribeExtranonce,
    Info,
    Unknown,
}

#[derive(Default)]
struct Values {
    version_mask: Option<u32>,
    /// Bits that the miner needs at least.
    bits_min: u32,
    minimum_difficulty: Option<Difficulty>,
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Params;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("extensions and their values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Params, A::Error> {
                let names = seq.next_element()?.unwrap_or_default();
                let values = seq.next_element::<Option<Values>>()?.flatten().unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Params { names, values })
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Text(String),
            Other(IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Text(name) => match &*name {
                "version-rolling" => Self::VersionRolling,
                "minimum-difficulty" => Self::MinimumDifficulty,
                "subscribe-extranonce" => Self::SubscribeExtranonce,
                "info" => Self::Info,
                _ => Self::Unknown,
            },
            Any::Other(_) => Self::Unknown,
        })
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Wire(Wire),
            Other(IgnoredAny),
        }
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some((key, value)) = map.next_entry::<String, Any>()? {
                    match (&*key, value) {
                        ("version-rolling.mask", Any::Wire(Wire::Text(mask))) => {
                            values.version_mask = parse_hex_u32(&mask);
                        }
                        ("version-rolling.min-bit-count", Any::Wire(count)) => {
                            values.bits_min = count.count();
                        }
                        ("minimum-difficulty.value", Any::Wire(value)) => {
                            values.minimum_difficulty = value.difficulty();
                        }
                        _ => {}
                    }
                }
                Ok(values)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::work::VERSION_ROLLING_MASK;

    const NAMES: [&str; 6] = [
        "version-rolling",
        "minimum-difficulty",
        "subscribe-extranonce",
        "info",
        "x-\\\"unheard-of\\n",
        "version-rolling",
    ];
    const VALUES: [&str; 7] = [
        "",
        ",null",
        ",{}",
        r#",{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}"#,
        r#",{"minimum-difficulty.value":2048}"#,
        r#",{"minimum-difficulty.value":"4096","version-rolling.mask":"00c00000"}"#,
        r#",{"minimum-difficulty.value":-1,"version-rolling.mask":7,"info.hw-version":["x"]}"#,
    ];

    #[test]
    fn every_combination_is_answered_in_valid_json() {
        for subset in 0..1u32 << NAMES.len() {
            let names: Vec<_> = (0..NAMES.len())
                .filter(|at| subset & (1 << at) != 0)
                .map(|at| format!("\"{}\"", NAMES[at]))
                .collect();
            for values in VALUES {
                let line = format!(
                    r#"{{"id":1,"method":"mining.configure","params":[[{}]{values}]}}"#,
                    names.join(",")
                );
                let request = RpcRequest::parse(line.as_bytes()).unwrap();
                let mut out = Vec::new();
                Configure::read(&request, VERSION_ROLLING_MASK)
                    .unwrap()
                    .write_answer(request.id, &mut out);
                #[derive(Deserialize)]
                struct Answer {
                    result: BTreeMap<String, Granted>,
                }
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Granted {
                    Flag(bool),
                    Mask(String),
                }
                let answer: Answer = serde_json::from_slice(&out).expect(&line);
                for (name, bit) in [("version-rolling", 0b10_0001), ("info", 0b1000)] {
                    let granted = matches!(answer.result.get(name), Some(Granted::Flag(true)));
                    assert_eq!(granted, subset & bit != 0, "{line}");
                }
                if let Some(Granted::Mask(mask)) = answer.result.get("version-rolling.mask") {
                    let few = values.contains("00c00000");
                    assert_eq!(mask, if few { "00c00000" } else { "1fffe000" });
                }
            }
        }
    }

    #[test]
    fn minimum_difficulty_is_granted_when_it_is_a_number() {
        for (value, granted) in [("2048", true), ("0.5", true), ("-1", false), ("null", false)] {
            let line = format!(
                r#"{{"id":1,"method":"mining.configure","params":[["minimum-difficulty"],{{"minimum-difficulty.value":{value}}}]}}"#
            );
            let request = RpcRequest::parse(line.as_bytes()).unwrap();
            let asked = Configure::read(&request, VERSION_ROLLING_MASK).unwrap().minimum_difficulty;
            assert_eq!(asked.unwrap().is_some(), granted, "{value}");
        }
    }

    #[test]
    fn nonsense_is_not_a_configuration() {
        for params in ["1", "{}", "[7]", "[[\"a\"],[]]", "[{}]"] {
            let line = format!(r#"{{"id":1,"method":"mining.configure","params":{params}}}"#);
            let request = RpcRequest::parse(line.as_bytes()).unwrap();
            assert_eq!(Configure::read(&request, VERSION_ROLLING_MASK), None, "{params}");
        }
    }
}
