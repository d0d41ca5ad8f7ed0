//! What a run was, by what a script can see afterwards. Pure.

use std::fmt;

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal,
    /// It was killed when its time was over.
    NoEnd,
}

/// What is under the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Final {
    Exact,
    Absent,
    /// What was there before the run, which is not the file.
    Before,
    /// The right bytes, but not all of them.
    Short,
    Wrong,
}

/// All that was seen of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) exit: Exit,
    pub(super) file: Final,
    /// A file beside it says that it is a part (`x.aria2`).
    pub(super) is_marked: bool,
    /// Where it went that it should not have gone, or what it said there.
    pub(super) went: Vec<&'static str>,
}

/// The same in one word, from the best to the worst: of several runs for one case the worst is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Exact bytes, exit 0.
    Right,
    /// Exact bytes, but it says that it failed.
    Complained,
    /// It failed, and nothing is under the final name but what was there before.
    Failed,
    /// It failed, and what is there is marked as a part.
    Marked,
    /// It failed, and a part is under the final name.
    Part,
    /// It had not ended when its time was over; nothing wrong is under the final name that it does not mark.
    NoEnd,
    /// Neither an end nor the right bytes under the final name.
    NoEndPart,
    /// It failed, and wrong bytes are under the final name.
    Wrong,
    /// Exit 0, and nothing there.
    Nothing,
    /// Exit 0, and wrong bytes (or too few) under the final name.
    Silent,
}

impl Seen {
    pub(super) fn verdict(&self) -> Verdict {
        match (self.exit, self.file) {
            (Exit::Code(0), Final::Exact) => Verdict::Right,
            (Exit::Code(0), Final::Absent) => Verdict::Nothing,
            // Whether it wrote them or found them: it says that the file is there.
            (Exit::Code(0), _) => Verdict::Silent,
            (Exit::NoEnd, Final::Wrong | Final::Short) if !self.is_marked => Verdict::NoEndPart,
            (Exit::NoEnd, _) => Verdict::NoEnd,
            (_, Final::Exact) => Verdict::Complained,
            (_, Final::Absent | Final::Before) => Verdict::Failed,
            (_, _) if self.is_marked => Verdict::Marked,
            (_, Final::Short) => Verdict::Part,
            (_, Final::Wrong) => Verdict::Wrong,
        }
    }
}

/// What is under the final name now, given what was there and what belongs there.
pub(super) fn compare(found: Option<&[u8]>, before: Option<&[u8]>, right: &[u8]) -> Final {
    match found {
        None => Final::Absent,
        Some(found) if found == right => Final::Exact,
        Some(found) if Some(found) == before => Final::Before,
        Some(found) if right.starts_with(found) => Final::Short,
        Some(_) => Final::Wrong,
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal => f.write_str("killed"),
            Self::NoEnd => f.write_str("no end"),
        }
    }
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Absent => "absent",
            Self::Before => "as before the run",
            Self::Short => "a part",
            Self::Wrong => "wrong bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(exit: Exit, file: Final, is_marked: bool) -> Verdict {
        Seen { exit, file, is_marked, went: Vec::new() }.verdict()
    }

    #[test]
    fn exit_0_is_believed_and_therefore_judged() {
        let done = Exit::Code(0);
        assert_eq!(verdict(done, Final::Exact, false), Verdict::Right);
        for file in [Final::Wrong, Final::Short, Final::Before] {
            assert_eq!(verdict(done, file, false), Verdict::Silent);
        }
        assert_eq!(verdict(done, Final::Absent, false), Verdict::Nothing);
    }

    #[test]
    fn a_failure_that_is_said_is_no_deceit() {
        let failed = Exit::Code(7);
        assert_eq!(verdict(failed, Final::Absent, false), Verdict::Failed);
        assert_eq!(verdict(failed, Final::Before, false), Verdict::Failed);
        assert_eq!(verdict(failed, Final::Wrong, true), Verdict::Marked);
        assert_eq!(verdict(failed, Final::Short, false), Verdict::Part);
        assert_eq!(verdict(Exit::Signal, Final::Wrong, false), Verdict::Wrong);
        assert_eq!(verdict(failed, Final::Exact, false), Verdict::Complained);
        assert_eq!(verdict(Exit::NoEnd, Final::Short, false), Verdict::NoEndPart);
        assert_eq!(verdict(Exit::NoEnd, Final::Short, true), Verdict::NoEnd);
    }

    #[test]
    fn bytes_are_compared_with_what_belongs_there_first() {
        let right = b"abcdef";
        assert_eq!(compare(None, None, right), Final::Absent);
        assert_eq!(compare(Some(right), Some(right), right), Final::Exact);
        assert_eq!(compare(Some(b"abc"), Some(b"abc"), right), Final::Before);
        assert_eq!(compare(Some(b"abc"), None, right), Final::Short);
        assert_eq!(compare(Some(b"abcdefg"), None, right), Final::Wrong);
        assert_eq!(compare(Some(b""), Some(b"x"), b""), Final::Exact);
    }

    #[test]
    fn the_worst_is_a_silent_error() {
        assert!(Verdict::Silent > Verdict::Wrong && Verdict::Wrong > Verdict::Marked);
        assert!(Verdict::Marked > Verdict::Failed && Verdict::Failed > Verdict::Right);
    }
}
