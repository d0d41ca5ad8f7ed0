//! The first of many names, for a message: `a, b and 3 more`.

use std::fmt::Display;

/// At most `most` of `names`, and the number of the others.
pub fn shortened_list<T: Display>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> = names.by_ref().take(most).map(|name| name.to_string()).collect();
    let text = first.join(", ");
    match names.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_first_are_counted() {
        assert_eq!(shortened_list(["a"], 2), "a");
        assert_eq!(shortened_list(["a", "b"], 2), "a, b");
        assert_eq!(shortened_list(["a", "b", "c", "d"], 2), "a, b and 2 more");
    }
}
