//! Reading the lock, once: what is edited later does not change a run.

use std::io::Read;

use camino::Utf8Path;

use super::arguments::Place;
use super::exit::{Code, Failure};
use crate::lockfile::{Lockfile, LockfileError, LockfileErrorKind, MAX_BYTES, Model, SelectError, Selection};

/// A lock's text and what messages call it.
#[derive(Debug)]
pub struct Text {
    name: String,
    /// The text, not looked at yet.
    pub text: String,
}

impl Text {
    /// Checks it.
    pub fn parse(&self) -> Result<Lockfile, Failure> {
        Ok(Lockfile::parse(&self.name, &self.text)?)
    }
}

/// Reads and checks the lock at `path`; `-` is standard input.
pub fn read(path: &Utf8Path) -> Result<Lockfile, Failure> {
    read_text(path)?.parse()
}

/// Reads the lock at `path`; `-` is standard input.
pub fn read_text(path: &Utf8Path) -> Result<Text, Failure> {
    let name = if path == "-" { "standard input" } else { path.as_str() };
    let cannot = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "; give the lock's path with --lock",
            _ => "",
        };
        Failure::new(Code::Usage, format!("the lock {name} cannot be read: {error}{hint}"))
    };
    let mut bytes = Vec::new();
    let read =
        |source: &mut dyn Read, bytes: &mut Vec<u8>| source.take(MAX_BYTES + 1).read_to_end(bytes).map(drop);
    if path == "-" {
        read(&mut std::io::stdin().lock(), &mut bytes).map_err(cannot)?;
    } else {
        let mut file = std::fs::File::open(path).map_err(cannot)?;
        read(&mut file, &mut bytes).map_err(cannot)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(LockfileError::of_file(name, LockfileErrorKind::TooLarge).into());
    }
    let text =
        String::from_utf8(bytes).map_err(|_| LockfileError::of_file(name, LockfileErrorKind::NotText))?;
    Ok(Text { name: name.to_owned(), text })
}

/// The models of `lock` that were asked for.
pub fn select<'a>(lock: &'a Lockfile, selection: &Selection) -> Result<Vec<&'a Model>, Failure> {
    lock.select(selection).map_err(|error: SelectError| Failure::new(Code::Usage, error))
}

/// Checks that the destination can be one: a directory, or nothing yet.
pub fn check_destination(place: &Place) -> Result<(), Failure> {
    let path = &place.dest;
    if path.as_str().is_empty() {
        return Err(Failure::new(Code::Usage, "--dest is empty; give the directory that the models go to"));
    }
    if path.exists() && !path.is_dir() {
        return Err(Failure::new(
            Code::Usage,
            format!("--dest {path} is not a directory; give one, or a path that does not exist yet"),
        ));
    }
    Ok(())
}
