//! The outcome of one run, as a script sees it: exit status and final file. Pure.

use std::fmt;

/// The end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal,
    /// It ran into the time limit and was killed.
    NoEnd,
}

/// The content under the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Final {
    Exact,
    Absent,
    /// The bytes from before the run, which are not the file.
    Before,
    /// A prefix of the file.
    Short,
    Wrong,
}

/// The outcome of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) exit: Exit,
    pub(super) file: Final,
    /// A control file beside it marks it as a part (`x.aria2`).
    pub(super) is_marked: bool,
    /// Requests that the tool should not have made.
    pub(super) trespasses: Vec<&'static str>,
}

impl Verdict {
    /// Exit 0, but other bytes than the file's under the final name. It makes no difference who wrote them: exit 0 says
    /// that the file is there.
    pub(super) fn is_silent_error(&self) -> bool {
        self.exit == Exit::Code(0) && !matches!(self.file, Final::Exact | Final::Absent)
    }
}

/// Classifies the bytes under the final name, given those from before the run and the file's own.
pub(super) fn compare(found: Option<&[u8]>, before: Option<&[u8]>, file: &[u8]) -> Final {
    match found {
        None => Final::Absent,
        Some(found) if found == file => Final::Exact,
        Some(found) if Some(found) == before => Final::Before,
        Some(found) if file.starts_with(found) => Final::Short,
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exit = self.exit;
        match (exit, self.file) {
            _ if self.is_silent_error() => f.write_str("**wrong, exit 0**")?,
            (Exit::Code(0), Final::Exact) => f.write_str("exact")?,
            (Exit::Code(0), _) => f.write_str("exit 0, nothing there")?,
            (Exit::NoEnd, Final::Wrong | Final::Short) if !self.is_marked => {
                f.write_str("no end, unmarked bytes left")?;
            }
            (Exit::NoEnd, _) | (_, Final::Absent | Final::Before) => write!(f, "{exit}")?,
            (_, Final::Exact) => write!(f, "exact, {exit}")?,
            _ if self.is_marked => write!(f, "{exit}, marked part")?,
            (_, Final::Short) => write!(f, "{exit}, part left")?,
            (_, Final::Wrong) => write!(f, "{exit}, wrong bytes left")?,
        }
        self.trespasses.iter().try_for_each(|trespass| write!(f, ", **{trespass}**"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(exit: Exit, file: Final, is_marked: bool) -> String {
        let verdict = Verdict { exit, file, is_marked, trespasses: Vec::new() };
        assert_eq!(verdict.is_silent_error(), verdict.to_string() == "**wrong, exit 0**");
        verdict.to_string()
    }

    #[test]
    fn exit_0_over_other_bytes_is_a_silent_error() {
        let done = Exit::Code(0);
        assert_eq!(shown(done, Final::Exact, false), "exact");
        for file in [Final::Wrong, Final::Short, Final::Before] {
            assert_eq!(shown(done, file, false), "**wrong, exit 0**");
        }
        assert_eq!(shown(done, Final::Absent, false), "exit 0, nothing there");
    }

    #[test]
    fn a_reported_failure_is_no_silent_error() {
        let failed = Exit::Code(7);
        assert_eq!(shown(failed, Final::Absent, false), "exit 7");
        assert_eq!(shown(failed, Final::Before, false), "exit 7");
        assert_eq!(shown(failed, Final::Wrong, true), "exit 7, marked part");
        assert_eq!(shown(failed, Final::Short, false), "exit 7, part left");
        assert_eq!(shown(Exit::Signal, Final::Wrong, false), "killed, wrong bytes left");
        assert_eq!(shown(failed, Final::Exact, false), "exact, exit 7");
        assert_eq!(shown(Exit::NoEnd, Final::Short, false), "no end, unmarked bytes left");
        assert_eq!(shown(Exit::NoEnd, Final::Short, true), "no end");
        assert_eq!(shown(Exit::NoEnd, Final::Exact, false), "no end");
    }

    #[test]
    fn the_file_itself_is_compared_first() {
        let file = b"abcdef";
        assert_eq!(compare(None, None, file), Final::Absent);
        assert_eq!(compare(Some(file), Some(file), file), Final::Exact);
        assert_eq!(compare(Some(b"abc"), Some(b"abc"), file), Final::Before);
        assert_eq!(compare(Some(b"abc"), None, file), Final::Short);
        assert_eq!(compare(Some(b"abcdefg"), None, file), Final::Wrong);
        assert_eq!(compare(Some(b""), Some(b"x"), b""), Final::Exact);
    }
}
