//! Limit on a lock's tokens, checked before the text is parsed.
//!
//! The TOML parser builds a list and a tree of all tokens first: measured, 80 bytes a token. A text of commas has a
//! token for each character, a list of models one for every ten. So the tokens are counted, and a text with more than
//! any list of models is refused before parsing.

/// The most separators: some forty thousand models, or 300 MB within the parser.
const MOST: usize = 2_000_000;

/// Returns true if a text has too many tokens. Two separators enclose one token at most.
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
    // A short text needs no count: even if every byte is a separator it has few enough.
    text.len() > MOST && text.as_bytes().iter().filter(is_separator).count() > MOST
}
