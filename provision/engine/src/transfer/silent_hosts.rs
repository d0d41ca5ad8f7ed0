//! Hosts that give no answer, and their failures in a row, over all files (fault 98).
//!
//! A file that fails at such a host takes over the host's row, so four files cost no more time than one. The head of an
//! answer, also of a redirect, ends the row. During the wait after a failure no other failure counts, however many
//! files meet it.

use std::collections::HashMap;
use std::time::Duration;

/// The failures in a row of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Their number.
    pub(super) failures: u32,
    /// The time at which the first one began.
    pub(super) since: Duration,
    last: Duration,
    /// The end of the wait after the last one.
    until: Duration,
}

/// The rows, by host and port.
#[derive(Debug, Default)]
pub(super) struct SilentHosts(HashMap<String, Row>);

impl SilentHosts {
    /// Counts a failure at `now` of a request that `began` earlier. `heard` is the time of the host's last answer.
    /// Returns the row, and false if the failure belongs to the one before.
    pub(super) fn count(
        &mut self,
        host: &str,
        began: Duration,
        now: Duration,
        heard: Option<Duration>,
    ) -> (Row, bool) {
        let row = self.0.get(host).filter(|row| heard.is_none_or(|heard| heard <= row.last)).copied();
        if let Some(row) = row.filter(|row| began <= row.last || began < row.until) {
            return (row, false);
        }
        let since = row.map_or(began, |row| row.since);
        let failures = row.map_or(0, |row| row.failures) + 1;
        let row = Row { failures, since, last: now, until: now };
        self.0.insert(host.to_owned(), row);
        (row, true)
    }

    /// The host is asked again at `until`.
    pub(super) fn wait(&mut self, host: &str, until: Duration) {
        if let Some(row) = self.0.get_mut(host) {
            row.until = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_all_files_make_one_row_until_the_host_answers() {
        let mut hosts = SilentHosts::default();
        let seconds = Duration::from_secs;
        let mut count = |began, now, heard: Option<u64>| {
            let (row, is_new) = hosts.count("h:1", seconds(began), seconds(now), heard.map(seconds));
            hosts.wait("h:1", seconds(now + 2));
            (row.failures, row.since, is_new)
        };
        assert_eq!(count(0, 5, None), (1, seconds(0), true));
        assert_eq!(count(4, 9, None), (1, seconds(0), false));
        assert_eq!(count(10, 11, Some(3)), (1, seconds(0), false));
        assert_eq!(count(13, 14, Some(3)), (2, seconds(0), true));
        assert_eq!(count(17, 18, Some(15)), (1, seconds(17), true));
        assert_eq!(hosts.count("h:2", seconds(0), seconds(20), None).0.failures, 1);
    }
}
