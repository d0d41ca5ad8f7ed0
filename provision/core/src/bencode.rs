//! Bencoding, the format of torrents (BEP 3): a writer, and a reader of one value of a dictionary.
//!
//! A value has one encoding: integers without leading zeros, keys in the order of their bytes. So equal values give
//! equal bytes, and the digest of a torrent's `info` identifies it.

use std::collections::BTreeMap;

/// The deepest nesting that is read. A torrent has four levels.
const DEEPEST: usize = 16;

/// A value that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Integer(u64),
    /// A byte string; texts are UTF-8.
    Bytes(Vec<u8>),
    /// Values in a given order.
    List(Vec<Self>),
    /// Values by name; a map keeps the order that the format demands.
    Dictionary(BTreeMap<&'static str, Self>),
}

impl Value {
    /// The encoded bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let bytes = |bytes: &[u8], out: &mut Vec<u8>| {
            out.extend(format!("{}:", bytes.len()).as_bytes());
            out.extend(bytes);
        };
        match self {
            Self::Integer(number) => out.extend(format!("i{number}e").as_bytes()),
            Self::Bytes(text) => bytes(text, out),
            Self::List(values) => {
                out.push(b'l');
                for value in values {
                    value.write(out);
                }
                out.push(b'e');
            }
            Self::Dictionary(values) => {
                out.push(b'd');
                for (key, value) in values {
                    bytes(key.as_bytes(), out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

/// The encoded value of `key` in the encoded dictionary `bytes`. `None` if there is none, or if the bytes before its
/// end are no bencoding.
pub fn value_of<'a>(bytes: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut rest = bytes.strip_prefix(b"d")?;
    while !rest.starts_with(b"e") {
        let (name, after) = string(rest)?;
        let end = skip(after, DEEPEST)?;
        if name == key.as_bytes() {
            return Some(&after[..after.len() - end.len()]);
        }
        rest = end;
    }
    None
}

/// The byte string at the start of `bytes`, and the bytes behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    bytes[colon + 1..].split_at_checked(length)
}

/// The bytes behind the value at the start of `bytes`.
fn skip(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    match bytes.first()? {
        b'i' => bytes.iter().position(|byte| *byte == b'e').map(|end| &bytes[end + 1..]),
        // A dictionary is a list of names and values.
        b'l' | b'd' => {
            let mut rest = &bytes[1..];
            while *rest.first()? != b'e' {
                rest = skip(rest, depth.checked_sub(1)?)?;
            }
            Some(&rest[1..])
        }
        _ => string(bytes).map(|(_, rest)| rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_bep_3_writes_them() {
        for (value, encoded) in [
            (Value::from("spam"), "4:spam"),
            (Value::from(""), "0:"),
            (Value::from(3), "i3e"),
            (Value::from(0), "i0e"),
            (Value::List(vec!["spam".into(), "eggs".into()]), "l4:spam4:eggse"),
            (
                Value::Dictionary(BTreeMap::from([("spam", "eggs".into()), ("cow", "moo".into())])),
                "d3:cow3:moo4:spam4:eggse",
            ),
        ] {
            assert_eq!(value.encode(), encoded.as_bytes());
        }
    }

    #[test]
    fn a_value_is_found_by_its_key_alone() {
        let text = b"d1:ai1e4:info1:x4:listl4:infod4:infoi7eee4:infz0:e";
        assert_eq!(value_of(text, "info"), Some(&b"1:x"[..]));
        assert_eq!(value_of(text, "list"), Some(&b"l4:infod4:infoi7eee"[..]));
        assert_eq!(value_of(text, "infz"), Some(&b"0:"[..]));
        assert_eq!(value_of(text, "x"), None);
    }

    #[test]
    fn broken_bencoding_has_no_value() {
        let deep = format!("d4:info{}{}e", "l".repeat(99_999), "e".repeat(99_999));
        for text in [
            "",
            "d",
            "x",
            "d4:info",
            "d4:infoi7",
            "d4:info99999999999999999999:x",
            "d4:info9:x",
            "d-1:",
            &deep,
        ] {
            assert_eq!(value_of(text.as_bytes(), "info"), None, "{}", &text[..text.len().min(40)]);
        }
    }
}
