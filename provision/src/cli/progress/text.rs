//! Text from outside, made safe for a terminal and fitted to columns.
//!
//! Widths are [`unicode_width`]'s for each character, as indicatif counts them. Both must agree, or lines wrap.

use provision_core::terminal_text::is_unsafe;
use unicode_width::UnicodeWidthChar as _;

/// The longest message in characters. A server's error page is longer.
const LONGEST: usize = 2000;

/// The text on one line, without escape sequences and unsafe characters.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut rest = text;
    let mut length = 0;
    while let Some(c) = rest.chars().next() {
        if length == LONGEST {
            out.push('…');
            break;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{1b}' => rest = after_escape(rest),
            '\u{9b}' => rest = after_csi(rest),
            // A line break could forge a line of the log.
            c if c.is_whitespace() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                    length += 1;
                }
            }
            c if is_unsafe(c) => {}
            c => {
                out.push(c);
                length += 1;
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The longest address that is shown whole.
const LONGEST_ADDRESS: usize = 72;

/// The text with long addresses shortened to host and last component. JSON, the report and the lock have them whole.
pub(in crate::cli) fn with_short_addresses(text: &str) -> String {
    let short = |word: &str| {
        let address = word.trim_end_matches([':', ',', ';', ')', '.']);
        let (scheme, rest) = address.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let (folders, last) = path.rsplit_once('/')?;
        let is_long = scheme.ends_with("http") || scheme.ends_with("https");
        let is_long = is_long && address.chars().count() > LONGEST_ADDRESS && !folders.is_empty();
        let after = &word[address.len()..];
        is_long.then(|| format!("{scheme}://{host}/…/{}{after}", cut(last, LONGEST_ADDRESS)))
    };
    let words: Vec<_> = text.split(' ').map(|word| short(word).unwrap_or_else(|| word.to_owned())).collect();
    words.join(" ")
}

/// The text after an escape sequence (ECMA-48) whose ESC is already taken.
fn after_escape(text: &str) -> &str {
    let Some(c) = text.chars().next() else { return text };
    let after = &text[c.len_utf8()..];
    match c {
        '[' => after_csi(after),
        // Strings: OSC, DCS, SOS, PM, APC. They end with BEL or ESC \. A string without an end is kept as text, since
        // the rest of the text would go with it.
        ']' | 'P' | 'X' | '^' | '_' => match after.find(['\u{7}', '\u{1b}', '\u{9c}']) {
            Some(end) => after[end..]
                .strip_prefix("\u{1b}\\")
                .unwrap_or_else(|| after[end..].trim_start_matches('\u{7}')),
            None => after,
        },
        ' '..='/' => {
            let after = after.trim_start_matches(|c| matches!(c, ' '..='/'));
            after.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(after)
        }
        '0'..='~' => after,
        _ => text,
    }
}

fn after_csi(text: &str) -> &str {
    let text = text.trim_start_matches(|c| matches!(c, '0'..='?'));
    let text = text.trim_start_matches(|c| matches!(c, ' '..='/'));
    text.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(text)
}

/// The columns of a text without control characters.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// At most `columns` wide, with `…` in place of the middle: the folder and the ending of a path stay.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    // The end of a path is more specific than its beginning.
    let head = fitting(text.chars(), room * 2 / 5);
    let tail = fitting(text.chars().rev(), room - room * 2 / 5);
    let from = text.char_indices().rev().nth(tail.saturating_sub(1)).map_or(0, |(at, _)| at);
    let tail = if tail == 0 { "" } else { &text[from..] };
    // A combining mark whose base is cut would combine with the `…`.
    let tail = tail.trim_start_matches(|c: char| c.width() == Some(0));
    text.chars().take(head).chain(['…']).chain(tail.chars()).collect()
}

/// The number of characters that fit.
fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> usize {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .count()
}

/// Cut or filled up to exactly `columns`, the text at the left.
pub(super) fn left(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    let fill = columns - width(&text);
    text.extend(std::iter::repeat_n(' ', fill));
    text
}

/// Cut or filled up to exactly `columns`, the text at the right.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let mut out = " ".repeat(columns - width(&text));
    out.push_str(&text);
    out
}

/// Breaks a line between words if its parts then fit into `columns`; later parts are indented. A word that fits on no
/// line is left to the terminal. Colours take no columns.
pub(super) fn wrap(text: &str, columns: usize) -> String {
    const INDENT: &str = "  ";
    let mut out = String::with_capacity(text.len() + 8);
    let mut used = 0;
    for (n, word) in text.split(' ').enumerate() {
        let gap = usize::from(n > 0);
        let columns_of_word = width(&clean(word));
        let fits_alone = columns_of_word > 0 && INDENT.len() + columns_of_word <= columns;
        if fits_alone && used + gap + columns_of_word > columns {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(INDENT);
            used = INDENT.len() + columns_of_word;
        } else {
            out.push_str(&" "[..gap]);
            used += gap + columns_of_word;
            if columns_of_word > 0 && used > columns {
                used %= columns.max(1);
            }
        }
        out.push_str(word);
    }
    out
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    /// True if colours are used.
    pub(super) colour: bool,
}

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_and_control_characters_are_gone() {
        for (text, shown) in [
            ("vae/x.safetensors", "vae/x.safetensors"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;https://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;no end", "0;no end"),
            ("\u{9b}31mred", "red"),
            ("\u{1b}(Bx\u{1b}cy\u{1b}", "xy"),
            ("one\r\n\ttwo\n", "one two"),
            ("a\u{202e}b\u{2028}c\u{feff}\u{7f}\u{8}\0d", "ab cd"),
            ("\u{1b}[31", ""),
            ("\u{1b}é", "é"),
            ("模型", "模型"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(cut("vae/x", 5), "vae/x");
        assert_eq!(cut("text_encoders/qwen_2.5.safetensors", 20), "text_en….safetensors");
        assert_eq!(cut("模型模型模型", 7), "模…模型");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(right("ab", 4), "  ab");
        assert_eq!(right("模型模", 4), " …模");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(
            wrap("✓ vae/x.safetensors  254 MB in 3.1 s", 26),
            "✓ vae/x.safetensors  254\n  MB in 3.1 s"
        );
        assert_eq!(wrap("✓ vae/x.safetensors  254 MB", 20), "✓ vae/x.safetensors\n  254 MB");
        assert_eq!(wrap("short", 20), "short");
        assert_eq!(wrap("\u{1b}[33mwarning:\u{1b}[0m the disk", 17), "\u{1b}[33mwarning:\u{1b}[0m the disk");
        assert_eq!(
            wrap("see https://h.example/long/address now", 10),
            "see https://h.example/long/address now"
        );
    }

    proptest! {
        #[test]
        fn breaking_lines_loses_nothing(text in "[a-z模 ]{0,60}", columns in 0_usize..40) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let wrapped = wrap(&text, columns);
            prop_assert_eq!(words(&wrapped), words(&text));
            for line in wrapped.lines().map(str::trim_end) {
                let too_long = words(line).iter().any(|word| width(word) + 2 > columns);
                prop_assert!(width(line) <= columns || too_long, "{wrapped:?}");
            }
        }

        #[test]
        fn nothing_harmful_comes_through(text in "([\\x00-\\x9f]|\\x1b[\\[\\]P(]|\\PC|\u{202e}){0,40}") {
            let shown = clean(&text);
            prop_assert!(!shown.chars().any(is_unsafe), "{text:?} as {shown:?}");
            prop_assert_eq!(clean(&shown), shown);
        }

        #[test]
        fn columns_are_kept(text in "\\PC{0,40}", columns in 0_usize..50) {
            prop_assert!(width(&cut(&text, columns)) <= columns);
            prop_assert_eq!(width(&left(&text, columns)), columns);
            prop_assert_eq!(width(&right(&text, columns)), columns);
        }
    }
}
