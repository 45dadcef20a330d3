//! How often a miner of a given hashrate finds a share. Pure.

use crate::work::HASHES_PER_DIFFICULTY;

/// Reads "1.2T", "500 GH/s", "1.2e12": hashes per second.
pub fn parse_hashrate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a hashrate: write it like 1.2T, 500GH/s or 1.2e12");
    let lower = text.trim().to_ascii_lowercase();
    let number = ["hashes/s", "hash/s", "h/s", "hps", "h"]
        .iter()
        .find_map(|unit| lower.strip_suffix(unit))
        .unwrap_or(&lower)
        .trim_end();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((number.strip_suffix(*unit)?, *factor)))
        .unwrap_or((number, 1.0));
    // Some people write decimals with a comma.
    let number: f64 = number.trim_end().replace(',', ".").parse().map_err(|_| wrong())?;
    let hashrate = number * factor;
    if hashrate.is_finite() && hashrate > 0.0 { Ok(hashrate) } else { Err(wrong()) }
}

/// What to say if a miner finds less than one share an hour at this minimum difficulty.
pub(super) fn too_rare(hashrate: Option<f64>, floor: Option<f64>) -> Option<String> {
    let (hashrate, floor) = (hashrate?, floor?);
    let hours = floor * HASHES_PER_DIFFICULTY / hashrate / 3600.0;
    (hours > 1.0).then(|| {
        let size = told(hashrate);
        let often = match hours {
            hours if hours < 48.0 => format!("{hours:.1} hours"),
            hours => format!("{:.1} days", hours / 24.0),
        };
        format!("a miner of {size} finds a share of difficulty {floor} only once in {often}")
    })
}

/// With three digits, as miners show it.
fn told(hashrate: f64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| hashrate >= *factor);
    let (unit, factor) = unit.map_or(("", 1.0), |(unit, factor)| (*unit, *factor));
    format!(
        "{:.3} {}H/s",
        hashrate / factor,
        if unit == "k" { "k".into() } else { unit.to_uppercase() }
    )
}

/// Largest first.
const UNITS: [(&str, f64); 6] =
    [("e", 1e18), ("p", 1e15), ("t", 1e12), ("g", 1e9), ("m", 1e6), ("k", 1e3)];
pub(super) const POOL_ADVICE: &str =
    "this pool accepts no smaller shares; it is for larger miners, or for many on one gateway";
pub(super) const OWN_ADVICE: &str = "it would seem dead for that long: set this lower, as far as \
                                     the pool accepts such shares";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashrates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1.2T", 1.2e12),
            ("500G", 5e11),
            ("1.2TH/s", 1.2e12),
            ("1.2 Th/s", 1.2e12),
            (" 1,2 t ", 1.2e12),
            ("1.2e12", 1.2e12),
            ("1e3 TH/s", 1e15),
            ("70kh/s", 70e3),
            ("400 KH", 4e5),
            ("1200000000000", 1.2e12),
            ("0.5 EH/s", 5e17),
            ("300 mhps", 3e8),
        ] {
            let hashrate = parse_hashrate(text).unwrap();
            assert!((hashrate / expected - 1.0).abs() < 1e-12, "{text}: {hashrate}");
        }
        for wrong in ["", "T", "fast", "0", "-1T", "1.2X", "inf", "nan", "1T2", "1e999", "TH/s"] {
            assert!(parse_hashrate(wrong).unwrap_err().contains("1.2T"), "{wrong}");
        }
    }

    #[test]
    fn a_share_in_more_than_an_hour_is_told() {
        let told = |hashrate, floor| too_rare(Some(hashrate), Some(floor));
        // 16,384 * 2^32 hashes: 19.5 hours at 1 GH/s.
        let gigahash = told(1e9, 16_384.0).unwrap();
        assert!(
            gigahash.contains("1.000 GH/s") && gigahash.contains("in 19.5 hours"),
            "{gigahash}"
        );
        let nerd = told(70e3, 16_384.0).unwrap();
        assert!(nerd.contains("70.000 kH/s") && nerd.contains("days"), "{nerd}");
        assert_eq!(told(1.2e12, 16_384.0), None);
        assert_eq!((too_rare(None, Some(1e9)), too_rare(Some(1.0), None)), (None, None));
    }
}
