//! Reading the lock, once: what is edited later does not change a run.

use std::fs::File;
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
    let too_large = || LockfileError::of_file(name, LockfileErrorKind::TooLarge);
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path).map_err(cannot)?;
        // Before a byte is read; what has no size (a pipe) is cut below.
        if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
            return Err(too_large().into());
        }
        Box::new(file)
    };
    source.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large().into());
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
