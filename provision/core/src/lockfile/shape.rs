//! What is looked at before a text is parsed at all.
//!
//! The parser makes a list of every token of a text, and a tree of them, before anything can be said of it: measured, 80
//! bytes for each. A text that is all commas has as many tokens as characters, one that lists models has one for every
//! ten. So tokens are counted, and what has more than any list of models is refused while it is still only a text.

/// The most separators: some forty thousand models, or 300 MB within the parser.
const MOST: usize = 2_000_000;

/// Whether a text has more tokens than it may. Between two separators lies one token at most.
pub(super) fn is_too_much(text: &str) -> bool {
    let is_separator = |byte: &&u8| {
        matches!(
            byte,
            b' ' | b'\t'
                | b'\n'
                | b'\r'
                | b'='
                | b','
                | b'.'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'"'
                | b'\''
                | b'#'
        )
    };
    // A short text needs no count: not even one that is nothing but separators has too many.
    text.len() > MOST && text.as_bytes().iter().filter(is_separator).count() > MOST
}
