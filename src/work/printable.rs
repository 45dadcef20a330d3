//! Makes strangers' text safe to show in a log, on a terminal or on a page.

use std::borrow::Cow;

/// `text` on one line, without anything that controls a terminal or reverses the text around it,
/// cut after `max` characters. Copies only where something has to change.
pub(crate) fn printable(text: &str, max: usize) -> Cow<'_, str> {
    let cut = text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end]);
    if cut.chars().all(is_printable) {
        return Cow::Borrowed(cut);
    }
    let shown = |c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER };
    Cow::Owned(cut.chars().map(shown).collect())
}

/// The same for bytes, which may not be text at all.
pub(crate) fn printable_bytes(bytes: &[u8], max: usize) -> String {
    // No character has more than four bytes, so nothing that would be shown is left out.
    let some = bytes.get(..max.saturating_mul(4)).unwrap_or(bytes);
    printable(&String::from_utf8_lossy(some), max).into_owned()
}

/// False for control characters (C0 and C1), line and paragraph separators, whatever sets the
/// writing direction (like U+202E), and invisible characters. True for joiners: emoji and many
/// Asian scripts need them.
pub(crate) fn is_printable(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'
        | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_controls_a_terminal_or_hides_gets_through() {
        for (text, shown) in [
            ("bc1qabc.garage", "bc1qabc.garage"),
            ("a\nINFO block found", "a\u{fffd}INFO block found"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("user\u{202e}nimda\u{2066}", "user\u{fffd}nimda\u{fffd}"),
            ("a\u{2028}b\u{feff}", "a\u{fffd}b\u{fffd}"),
            (
                "\u{26cf}\u{fe0f} k\u{fc}che \u{645}\u{6cc}\u{200c}\u{62e}",
                "\u{26cf}\u{fe0f} k\u{fc}che \u{645}\u{6cc}\u{200c}\u{62e}",
            ),
            ("", ""),
        ] {
            assert_eq!(printable(text, 64), shown);
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(printable("\u{fc}\u{fc}\u{fc}", 2), "\u{fc}\u{fc}");
        assert_eq!(printable_bytes("\u{20ac}\u{20ac}\u{20ac}".as_bytes(), 2), "\u{20ac}\u{20ac}");
        assert_eq!(printable_bytes(b"a\xff\x1b[0m", 8), "a\u{fffd}\u{fffd}[0m");
        assert_eq!(printable_bytes(&[b'x'; 9], 3), "xxx");
    }
}
