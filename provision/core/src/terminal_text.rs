//! [`TerminalText`]: text from outside, made safe for a terminal and for a log of lines.
//!
//! A workflow, a lock or a server's response can contain characters that a terminal obeys (colours, a title, "clear the
//! screen") or that reverse the reading order. A message that quotes them would pass them on. [`is_unsafe`] is the one
//! list of such characters; each caller replaces, drops or refuses them.

use std::fmt::{self, Display, Write};

/// Returns true for control characters, line separators, and characters that change the direction of text (Unicode
/// Standard Annex 9: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069; U+FEFF is invisible).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Displays its content with `·` for each unsafe character, so that the text stays one line.
#[derive(Debug, Clone, Copy)]
pub struct TerminalText<T>(pub T);

impl<T: Display> Display for TerminalText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter(f), "{}", self.0)
    }
}

struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.write_char(if is_unsafe(c) { '·' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unsafe_character_becomes_a_dot() {
        let text = "é ∞ \u{1b}[31mred\u{9b}2J\u{7} a\nb\tc\r\u{202e}gpj.\u{2028}x…\u{61c}";
        assert_eq!(TerminalText(text).to_string(), "é ∞ ·[31mred·2J· a·b·c··gpj.·x…·");
        assert_eq!(TerminalText(format_args!("{}{}", 1, '\0')).to_string(), "1·");
    }
}
