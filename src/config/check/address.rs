//! Addresses as people paste them, and what is wrong with those that are none: which letter, as far as
//! the checksum tells. Pure. Never which letter would be right: that is for whoever has the original.

use bitcoin::{Address, address::NetworkUnchecked, base58};

use crate::config::PayoutAddress;

/// Reads an address; spaces around it and a `bitcoin:` URI are understood. The error says what is
/// wrong, and shows none of what may be a secret.
pub(crate) fn read(written: &str) -> Result<PayoutAddress, String> {
    let text = bare(written);
    if let Some(what) = no_address(text) {
        return Err(what);
    }
    match text.parse::<Address<NetworkUnchecked>>() {
        // As it is written, but for what is around it: a pool knows miners by this text.
        Ok(address) => Ok(PayoutAddress { address, text: text.into() }),
        // Whatever does not look like one may be a secret with a typo in it.
        Err(_) if !looks_like_one(text) => {
            Err(format!("is not a bitcoin address: {}", explain(text)))
        }
        Err(_) => Err(format!("\"{text}\" is not a bitcoin address: {}", explain(text))),
    }
}

/// Without what wallets and people put around it.
fn bare(written: &str) -> &str {
    let text = written.trim().trim_matches(['"', '\'', '<', '>', '`']).trim();
    let scheme = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    let text = scheme.map_or(text, |_| text.get(SCHEME.len()..).unwrap_or_default());
    let text = text.trim_start_matches('/');
    text.split(['?', '#']).next().unwrap_or_default().trim()
}

/// What is often taken for an address. Secrets are not repeated.
fn no_address(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    let is_seed = text.split_whitespace().count() >= SEED_WORDS_MIN;
    if is_private_key(text) || begins(&["xprv", "yprv", "zprv", "tprv"]) || is_seed {
        return Some(
            "holds a wallet's secret (it is not shown here): anybody who has seen it can take the \
             coins. Never enter it anywhere but in a wallet; here belongs a bitcoin address to receive at"
                .into(),
        );
    }
    let what = if begins(&["xpub", "ypub", "zpub", "tpub", "upub", "vpub"]) {
        "the public key of a whole wallet"
    } else if begins(&["lnbc", "lntb", "lnurl"]) || text.contains('@') {
        "for Lightning, which no block can pay"
    } else if begins(&["ltc1", "doge:", "litecoin:", "bitcoincash:", "bchtest:", "0x"]) {
        "of another coin"
    } else {
        return None;
    };
    let shown = crate::work::printable(text, SHOWN_MAX);
    Some(format!("\"{shown}\" is {what}: enter a bitcoin address of your wallet, like bc1q…"))
}

/// Begins and is about as long as an address is; a private key begins with 5, K, L, 9 or c.
fn looks_like_one(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_bech32 = PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    let is_base58 = text.starts_with(['1', '3', 'm', 'n', '2']) && text.len() <= BASE58_LEN_MAX;
    is_bech32 && text.len() <= BECH32_LEN_MAX || is_base58
}

fn is_private_key(text: &str) -> bool {
    // The decoder takes the square of the length.
    if text.len() > PRIVATE_KEY_LEN_MAX {
        return false;
    }
    let Ok(bytes) = base58::decode_check(text) else { return false };
    matches!(bytes.as_slice(), [0x80 | 0xEF, rest @ ..] if matches!(rest.len(), 32 | 33))
}

fn explain(text: &str) -> String {
    if let Some(at) = text.find(char::is_whitespace) {
        return format!("there is a space in it, after {} letters", text[..at].chars().count());
    }
    if let Some((at, letter)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
        return format!(
            "letter {} ('{}') is none that addresses have",
            at + 1,
            letter.escape_debug()
        );
    }
    let lower = text.to_ascii_lowercase();
    match PREFIXES.iter().find(|prefix| lower.starts_with(**prefix)) {
        Some(prefix) => bech32(text, &lower, prefix),
        None => base58_fault(text),
    }
}

/// Of bc1…, tb1…, bcrt1…
fn bech32(text: &str, lower: &str, prefix: &str) -> String {
    if text != lower && text != text.to_ascii_uppercase() {
        return "capitals and small letters are mixed: write it in small ones".into();
    }
    let mut symbols = Vec::with_capacity(text.len());
    for (at, letter) in lower.bytes().enumerate().skip(prefix.len()) {
        match LETTERS.iter().position(|known| *known == letter) {
            #[expect(clippy::cast_possible_truncation, reason = "one of 32")]
            Some(value) => symbols.push(value as u8),
            None => {
                let shown = char::from(letter);
                return format!(
                    "letter {} ('{shown}') is wrong: after \"{prefix}\" no such address has 1, b, i \
                     or o",
                    at + 1
                );
            }
        }
    }
    let (has, wanted) = (symbols.len(), length(symbols.first().copied()));
    if !wanted.contains(&has) {
        let wanted: Vec<_> = wanted.iter().map(|it| (it + prefix.len()).to_string()).collect();
        let what =
            if has < *LENGTHS.iter().min().unwrap_or(&0) { "is cut off" } else { "is wrong" };
        return format!(
            "its length {what}: it has {} letters and should have {}",
            has + prefix.len(),
            wanted.join(" or ")
        );
    }
    // Its kind is in the first letter, which may be the wrong one.
    let suspects = CHECKSUMS.iter().find_map(|checksum| locate(prefix, &symbols, *checksum));
    let place = |at: &usize| {
        let at = prefix.len() + at;
        let letter = text.chars().nth(at).unwrap_or_default();
        format!("letter {} ('{letter}')", at + 1)
    };
    match suspects.as_deref() {
        Some([]) => "its first part is that of no address in use".into(),
        Some(places) => {
            let places: Vec<_> = places.iter().map(place).collect();
            format!(
                "its checksum is wrong, most likely because of {}: compare with the original",
                places.join(" and ")
            )
        }
        None => "its checksum is wrong, so several letters are: copy it again".into(),
    }
}

fn length(version: Option<u8>) -> &'static [usize] {
    match version {
        Some(0) => &LENGTHS,
        _ => &LENGTHS[1..],
    }
}

/// Where one or two letters differ from those of the nearest right text; empty: nowhere.
fn locate(prefix: &str, symbols: &[u8], checksum: u32) -> Option<Vec<usize>> {
    let off = residue(prefix, symbols) ^ checksum;
    if off == 0 {
        return Some(Vec::new());
    }
    // What an error alone does to the checksum does not depend on the other letters.
    let mut zeros = vec![0; symbols.len()];
    let base = linear(&zeros);
    let mut single = Vec::with_capacity(symbols.len() * 31);
    for at in 0..symbols.len() {
        for value in 1..32 {
            zeros[at] = value;
            single.push((linear(&zeros) ^ base, at));
        }
        zeros[at] = 0;
    }
    if let Some((_, at)) = single.iter().find(|(effect, _)| *effect == off) {
        return Some(vec![*at]);
    }
    single.sort_unstable();
    single.iter().find_map(|(effect, at)| {
        let other = single.binary_search_by_key(&(off ^ effect), |(effect, _)| *effect).ok()?;
        let other = single[other].1;
        (other != *at).then(|| vec![other.min(*at), other.max(*at)])
    })
}

/// BIP 173's checksum over the prefix and the letters.
fn residue(prefix: &str, symbols: &[u8]) -> u32 {
    let name = &prefix.as_bytes()[..prefix.len() - 1];
    let high = name.iter().map(|byte| byte >> 5);
    let low = name.iter().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(symbols.iter().copied());
    all.fold(1, step)
}

fn linear(symbols: &[u8]) -> u32 {
    symbols.iter().copied().fold(0, step)
}

fn step(sum: u32, value: u8) -> u32 {
    let top = sum >> 25;
    let shifted = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
    let terms = GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
    terms.fold(shifted, |sum, (_, term)| sum ^ term)
}

/// Of 1…, 3…, m…, n…, 2…
fn base58_fault(text: &str) -> String {
    let is_known = |letter: char| BASE58.contains(letter);
    if let Some((at, letter)) = text.chars().enumerate().find(|(_, letter)| !is_known(*letter)) {
        let why = match letter {
            '0' | 'O' | 'I' | 'l' => "no such address has 0, O, I or l",
            _ => "addresses have letters and digits alone",
        };
        return format!("letter {} ('{letter}') is wrong: {why}", at + 1);
    }
    if !text.starts_with(['1', '3', 'm', 'n', '2']) {
        return "one begins with bc1, 1 or 3 (on test networks with tb1, bcrt1, m, n or 2)".into();
    }
    let len = text.len();
    if !BASE58_LENGTHS.contains(&len) {
        let (least, most) = (BASE58_LENGTHS.start(), BASE58_LENGTHS.end());
        return format!("it has {len} letters, and should have {least} to {most}: copy it again");
    }
    match base58_suspect(text) {
        Some(at) => {
            let letter = text.chars().nth(at).unwrap_or_default();
            format!(
                "its checksum is wrong, most likely because of letter {} ('{letter}'): compare with \
                 the original",
                at + 1
            )
        }
        None if base58::decode_check(text).is_ok() => "it is of another coin".into(),
        None => "its checksum is wrong, so some letters are: copy it again".into(),
    }
}

/// The one letter whose change makes the checksum right.
fn base58_suspect(text: &str) -> Option<usize> {
    let mut letters = text.as_bytes().to_vec();
    for at in 0..letters.len() {
        let before = letters[at];
        for other in BASE58.bytes().filter(|other| *other != before) {
            letters[at] = other;
            let changed = std::str::from_utf8(&letters).unwrap_or_default();
            if base58::decode_check(changed).is_ok_and(|bytes| bytes.len() == BASE58_BYTES) {
                return Some(at);
            }
        }
        letters[at] = before;
    }
    None
}

/// BIP 21.
const SCHEME: &str = "bitcoin:";
/// With the digit that ends them.
const PREFIXES: [&str; 3] = ["bcrt1", "bc1", "tb1"];
/// BIP 173's alphabet.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// Bech32 (of version 0) and Bech32m (BIP 350).
const CHECKSUMS: [u32; 2] = [1, 0x2bc8_30a3];
/// Letters after the prefix: of a key's or a script's hash, and of a script's or Taproot's 32 bytes.
const LENGTHS: [usize; 2] = [39, 59];
const BASE58: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BASE58_LENGTHS: std::ops::RangeInclusive<usize> = 25..=35;
/// A version and a hash of 20 bytes.
const BASE58_BYTES: usize = 21;
/// BIP 39's shortest.
const SEED_WORDS_MIN: usize = 12;
/// BIP 173.
const BECH32_LEN_MAX: usize = 90;
/// A few letters too many may be a typo; a private key has 51 or 52.
const BASE58_LEN_MAX: usize = 40;
const PRIVATE_KEY_LEN_MAX: usize = 60;
/// Enough to see what it is.
const SHOWN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const SEGWIT: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    const TAPROOT: &str = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0";
    const LEGACY: &str = "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2";

    fn fault(text: &str) -> String {
        read(text).expect_err(text)
    }

    #[test]
    fn what_wallets_and_clipboards_put_around_an_address_is_understood() {
        for written in [
            SEGWIT.to_owned(),
            format!("  {SEGWIT}\n"),
            format!("bitcoin:{SEGWIT}"),
            format!("BITCOIN:{SEGWIT}?amount=0.1&label=my%20pool"),
            format!("bitcoin://{SEGWIT}#x"),
            format!("\"{SEGWIT}\""),
            format!("\u{a0}{SEGWIT}\u{a0}"),
        ] {
            assert_eq!(read(&written).map(|it| it.text), Ok(SEGWIT.to_owned()), "{written}");
        }
        let capitals = SEGWIT.to_uppercase();
        assert_eq!(read(&format!("bitcoin:{capitals}")).map(|it| it.text), Ok(capitals));
        assert_eq!(read(LEGACY).map(|it| it.text), Ok(LEGACY.to_owned()));
        assert_eq!(read(TAPROOT).map(|it| it.text), Ok(TAPROOT.to_owned()));
    }

    /// Every single wrong letter of a bech32 address is found, and no right one is named.
    #[test]
    fn a_wrong_letter_is_named_by_its_place() {
        for address in [SEGWIT, TAPROOT] {
            for at in 4..address.len() {
                let mut letters = address.as_bytes().to_vec();
                letters[at] = if letters[at] == b'q' { b'p' } else { b'q' };
                let text = String::from_utf8(letters).unwrap();
                let said = fault(&text);
                let place = format!("letter {} ('{}')", at + 1, &text[at..=at]);
                assert!(said.contains(&format!("because of {place}: ")), "{said}");
            }
        }
        let at = 10;
        let mut swapped = SEGWIT.as_bytes().to_vec();
        swapped.swap(at, at + 1);
        let said = fault(&String::from_utf8(swapped).unwrap());
        assert!(said.contains("letter 11 ('e') and letter 12 ('q')"), "{said}");
        let said = fault(&LEGACY.replace("Wetq", "Wexq"));
        assert!(said.contains("letter 13 ('x')"), "{said}");
    }

    #[test]
    fn other_mistakes_are_told_apart() {
        let cut = &SEGWIT[..40];
        for (text, said) in [
            (cut, "it has 40 letters and should have 42 or 62"),
            (&format!("{SEGWIT}q") as &str, "it has 43 letters"),
            (&SEGWIT.replace("w508", "wS08"), "are mixed"),
            (&SEGWIT.replace("w508", "wb08"), "letter 6 ('b') is wrong"),
            (&SEGWIT.replace("w508", "w5 08"), "a space in it, after 6 letters"),
            (&SEGWIT.replace("w508", "w5ö8"), "letter 7 ('ö')"),
            (&LEGACY.replace("BMS", "B0S"), "letter 5 ('0') is wrong: no such address has 0"),
            ("1BvBMSEYst", "it has 10 letters"),
            ("garage", "one begins with bc1, 1 or 3"),
            ("1nothing", "is not a bitcoin address"),
            ("xpub6CUGRUonZSQ4TWtTMmzXdrXDtypWKiK", "public key of a whole wallet"),
            ("me@example.org", "for Lightning"),
            ("ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9", "of another coin"),
            ("0x52908400098527886E0F7030069857D2E4169EE7", "of another coin"),
        ] {
            assert!(fault(text).contains(said), "{text}: {}", fault(text));
        }
    }

    #[test]
    fn a_wallets_secret_is_not_repeated() {
        let wif = "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ";
        let words = "abandon ".repeat(11) + "about";
        for secret in [wif, &words, "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jP"] {
            let said = fault(secret);
            assert!(said.contains("a wallet's secret"), "{said}");
            assert!(!said.contains(&secret[..12]), "{said}");
        }
        // With a typo in it, it is still a secret: few tries find the right letter.
        let bip38 = "6PRVWUbkzzsbcVac2qwfssoUJAN1Xhrg6bNk8J7Nzm5H7kxEbn2Nh2ZoGg";
        for secret in [&wif.replace("HueC", "HueD") as &str, &words[8..], "uprv8tXDerPXZ1Qs", bip38]
        {
            let said = fault(secret);
            assert!(!said.contains(&secret[..12]), "{said}");
        }
    }

    #[test]
    fn nothing_that_somebody_types_is_too_much() {
        for text in
            ["", "bc1", "BC1", "tb1q", "bcrt1", "1", "\u{202e}", "?", "bitcoin:", "bitcoin:?x"]
        {
            let said = read(text).expect_err(text);
            assert!(!said.is_empty());
        }
        assert!(read(&"q".repeat(100_000)).is_err());
        assert!(read(&format!("bc1{}", "q".repeat(100_000))).is_err());
    }
}
