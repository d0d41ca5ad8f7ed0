//! The text of a written file: its placeholders, its marked lines, and its difference from a file that is
//! there.
//!
//! A placeholder is `@NAME@`. Lines between `# >>> provision init` and `# <<< provision init` follow the
//! lock; the marks are comments in each format that has them.

use similar::TextDiff;

const BEGIN: &str = "# >>> provision init";
const END: &str = "# <<< provision init";

/// The template with its placeholders replaced.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// The text `there` with the marked lines of `fresh` in place of its own. `None` if the two have not the same
/// marks.
pub(super) fn with_marked_lines(there: &str, fresh: &str) -> Option<String> {
    let (mut parts, fresh) = (parts(there)?, parts(fresh)?);
    if parts.len() != fresh.len() || parts.len() == 1 {
        return None;
    }
    // Every second part is between marks.
    for (part, fresh) in parts.iter_mut().zip(fresh).skip(1).step_by(2) {
        *part = fresh;
    }
    Some(parts.concat())
}

/// The text in front of, between and behind the marks, in turn. `None` if a mark lacks its other half.
fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let inside = parts.len() % 2 == 0;
        let begins = line.trim_start().starts_with(BEGIN);
        if begins && inside {
            return None;
        }
        if line.trim_start().starts_with(END) {
            if !inside {
                return None;
            }
            parts.push(String::new());
        }
        parts.last_mut()?.push_str(line);
        if begins {
            parts.push(String::new());
        }
    }
    (parts.len() % 2 == 1).then_some(parts)
}

/// A unified diff from the file `there` to the text `fresh`.
pub(super) fn difference(path: &str, there: &str, fresh: &str) -> String {
    let diff = TextDiff::from_lines(there, fresh);
    let from = if there.is_empty() { "/dev/null" } else { path };
    diff.unified_diff().header(from, &format!("{path} by provision init")).to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: &str = "one\n# >>> provision init --x\nnew\n# <<< provision init\ntwo\n";

    #[test]
    fn only_marked_lines_are_replaced() {
        let there = "mine\n# >>> provision init, an older mark\nold\nold\n  # <<< provision init\nalso mine";
        let merged = with_marked_lines(there, FRESH).unwrap();
        assert_eq!(
            merged,
            "mine\n# >>> provision init, an older mark\nnew\n  # <<< provision init\nalso mine"
        );
        assert_eq!(with_marked_lines(&merged, FRESH).unwrap(), merged);
    }

    #[test]
    fn a_file_without_the_same_marks_is_left_alone() {
        for there in [
            "",
            "mine\n",
            "# >>> provision init\nopen\n",
            "# <<< provision init\n",
            "# >>> provision init\n# >>> provision init\n# <<< provision init\n",
            &FRESH.repeat(2),
        ] {
            assert_eq!(with_marked_lines(there, FRESH), None, "{there}");
        }
        assert_eq!(with_marked_lines("mine\n", "a script\n"), None);
    }

    #[test]
    fn a_difference_names_the_file_and_both_texts() {
        let text = difference("f", "a\nb\n", "a\nc\n");
        assert_eq!(text, "--- f\n+++ f by provision init\n@@ -1,2 +1,2 @@\n a\n-b\n+c");
        assert!(difference("f", "", "a\n").starts_with("--- /dev/null\n"), "{text}");
    }
}
