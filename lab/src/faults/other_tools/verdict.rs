//! The outcome of one run, as a script sees it: exit status and final file. Pure.

use std::fmt;

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
    /// The code as a shell shows it. `None`: it ran into the time limit and was killed.
    pub(super) exit: Option<i32>,
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
        self.exit == Some(0) && !matches!(self.file, Final::Exact | Final::Absent)
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match self.file {
            Final::Exact => ", exact",
            Final::Absent | Final::Before => "",
            _ if self.is_marked => ", marked part",
            Final::Short => ", part left",
            Final::Wrong => ", wrong bytes left",
        };
        match self.exit {
            _ if self.is_silent_error() => f.write_str("**wrong, exit 0**")?,
            Some(0) if self.file == Final::Exact => f.write_str("exact")?,
            Some(0) => f.write_str("exit 0, nothing there")?,
            Some(code) => write!(f, "exit {code}{left}")?,
            None => write!(f, "no end{left}")?,
        }
        self.trespasses.iter().try_for_each(|trespass| write!(f, ", **{trespass}**"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(exit: Option<i32>, file: Final, is_marked: bool) -> String {
        let verdict = Verdict { exit, file, is_marked, trespasses: Vec::new() };
        assert_eq!(verdict.is_silent_error(), verdict.to_string() == "**wrong, exit 0**");
        verdict.to_string()
    }

    #[test]
    fn exit_0_over_other_bytes_is_a_silent_error() {
        let done = Some(0);
        assert_eq!(shown(done, Final::Exact, false), "exact");
        for file in [Final::Wrong, Final::Short, Final::Before] {
            assert_eq!(shown(done, file, false), "**wrong, exit 0**");
        }
        assert_eq!(shown(done, Final::Absent, false), "exit 0, nothing there");
    }

    #[test]
    fn a_reported_failure_is_no_silent_error() {
        let failed = Some(7);
        assert_eq!(shown(failed, Final::Absent, false), "exit 7");
        assert_eq!(shown(failed, Final::Before, false), "exit 7");
        assert_eq!(shown(failed, Final::Wrong, true), "exit 7, marked part");
        assert_eq!(shown(failed, Final::Short, false), "exit 7, part left");
        assert_eq!(shown(Some(137), Final::Wrong, false), "exit 137, wrong bytes left");
        assert_eq!(shown(failed, Final::Exact, false), "exit 7, exact");
        assert_eq!(shown(None, Final::Short, false), "no end, part left");
        assert_eq!(shown(None, Final::Short, true), "no end, marked part");
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
