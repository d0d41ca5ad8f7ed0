//! [`Shown`]: text that others wrote, as a terminal may have it.
//!
//! A list or a lock comes from somewhere: a workflow from a forum, an aria2 file from a script. A name in it may hold what a
//! terminal obeys (colours, a title, "clear the screen", text that reads backwards), and a message that quotes the name would
//! hand it on. So what is quoted goes through here, and each such character is a dot. Messages are one line each, so a line's
//! end is one of them.

use std::fmt::{self, Display, Write};

/// Displays what is in it, with `·` for each character that a terminal would not show.
#[derive(Debug, Clone, Copy)]
pub struct Shown<T>(pub T);

impl<T: Display> Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter(f), "{}", self.0)
    }
}

struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.write_char(if is_obeyed(c) { '·' } else { c }))
    }
}

/// Control characters, and those that turn the direction of text or end a line without being one.
fn is_obeyed(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_a_dot_and_the_rest_is_as_it_was() {
        let text = "é ∞ \u{1b}[31mred\u{9b}2J\u{7} a\nb\tc\r\u{202e}gpj.\u{2028}x…";
        assert_eq!(Shown(text).to_string(), "é ∞ ·[31mred·2J· a·b·c··gpj.·x…");
        assert_eq!(Shown(format_args!("{}{}", 1, '\0')).to_string(), "1·");
    }
}
