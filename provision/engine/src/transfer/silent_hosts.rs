//! Hosts that give no answer, and their failures in a row, over all files (fault 98).
//!
//! A file that fails at such a host takes over the host's row: four files cost what one costs.

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
    /// Bytes that the host had sent.
    received: u64,
}

/// The rows, by host and port.
#[derive(Debug, Default)]
pub(super) struct SilentHosts(HashMap<String, Row>);

impl SilentHosts {
    /// Counts a failure at `now` of a request that `began` earlier, when the host had sent `received` bytes in total. Any byte
    /// ends the row. `None` if the request was under way at the last failure, which counts for both.
    pub(super) fn count(&mut self, host: &str, began: Duration, now: Duration, received: u64) -> Option<Row> {
        let row = self.0.get(host).filter(|row| row.received == received).copied();
        if row.is_some_and(|row| began <= row.last) {
            return None;
        }
        let since = row.map_or(began, |row| row.since);
        let failures = row.map_or(0, |row| row.failures) + 1;
        let row = Row { failures, since, last: now, received };
        self.0.insert(host.to_owned(), row);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_all_files_make_one_row_until_a_byte_comes() {
        let mut hosts = SilentHosts::default();
        let seconds = Duration::from_secs;
        let mut count = |began, now, received| {
            hosts.count("h:1", seconds(began), seconds(now), received).map(|row| (row.failures, row.since))
        };
        assert_eq!(count(0, 5, 7), Some((1, seconds(0))));
        assert_eq!(count(4, 9, 7), None);
        assert_eq!(count(6, 12, 7), Some((2, seconds(0))));
        assert_eq!(count(13, 14, 8), Some((1, seconds(13))));
        assert_eq!(hosts.count("h:2", seconds(0), seconds(20), 0).map(|row| row.failures), Some(1));
    }
}
