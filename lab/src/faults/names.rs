//! The cases in a test's name.
//!
//! `fault_13_length_and_chunked` covers one case, `fault_12_14_…` and `faults_17_18_…` two, `fault_12_to_14_…` three.
//! The words that follow may have numbers, too (`fault_66_kill_9_…`). So numbers count while they follow one another at
//! the beginning and rise. The first has at most three digits, the others two: `200` is a status.

/// A test's name, without its modules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// In ascending order; empty after a `fault` without a number.
    pub(super) cases: Vec<u8>,
    /// The name after the numbers, with underscores.
    pub(super) words: &'a str,
}

/// The parts of a function's name. `None`: it is no test of the catalogue.
pub(super) fn read(function: &str) -> Option<Name<'_>> {
    let mut words = function.strip_prefix("fault_").or_else(|| function.strip_prefix("faults_"))?;
    let mut cases: Vec<u8> = Vec::new();
    loop {
        let range = words.strip_prefix("to_").filter(|_| !cases.is_empty());
        let (word, rest) = range.unwrap_or(words).split_once('_').unwrap_or((range.unwrap_or(words), ""));
        let number = word.parse().ok().filter(|_| word.len() <= if cases.is_empty() { 3 } else { 2 });
        let Some(number) = number.filter(|number| cases.last() < Some(number)) else { break };
        let first = cases.last().filter(|_| range.is_some()).map_or(number, |last| last + 1);
        cases.extend(first..=number);
        words = rest;
    }
    Some(Name { cases, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(function: &str) -> Vec<u8> {
        read(function).unwrap().cases
    }

    #[test]
    fn single_numbers_lists_and_ranges_are_read() {
        let name = read("fault_07_a_longer_range").unwrap();
        assert_eq!((name.cases, name.words), (vec![7], "a_longer_range"));
        let name = read("fault_12_14_a_body_that_is_cut").unwrap();
        assert_eq!((name.cases, name.words), (vec![12, 14], "a_body_that_is_cut"));
        assert_eq!(cases("fault_12_to_14_framing"), [12, 13, 14]);
        assert_eq!(cases("fault_32_to_35_43_to_45_refusals"), [32, 33, 34, 35, 43, 44, 45]);
        let name = read("faults_17_18_if_range_is_never_sent").unwrap();
        assert_eq!((name.cases, name.words), (vec![17, 18], "if_range_is_never_sent"));
        assert_eq!(cases("fault_27"), [27]);
        assert_eq!(cases("fault_102_200_with_a_location"), [102]);
    }

    #[test]
    fn numbers_among_the_words_are_not_cases() {
        assert_eq!(cases("fault_66_kill_9_at_fifty_moments"), [66]);
        assert_eq!(cases("fault_66_50_kills"), [66]);
        assert_eq!(cases("fault_03_200_with_a_range"), [3]);
        assert_eq!(cases("fault_22_416_to_everything"), [22]);
        assert_eq!(cases("fault_45_http2_is_not_asked_for"), [45]);
        assert_eq!(read("fault_03_200_with").unwrap().words, "200_with");
    }

    #[test]
    fn names_without_a_number_cover_no_case() {
        assert_eq!(read("a_fault_07_is_not_meant"), None);
        assert_eq!(read("default_is_fine"), None);
        assert!(cases("fault_of_the_user").is_empty());
    }
}
