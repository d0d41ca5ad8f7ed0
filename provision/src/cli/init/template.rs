//! The text of a written file: its placeholders, its marked lines, and its difference from a file that is
//! there.
//!
//! A placeholder is `@NAME@`. Lines between `# >>> provision init` and `# <<< provision init` follow the
//! lock; the marks are comments in each format that has them.

use similar::TextDiff;

const BEGIN: &str = "# >>> provision init";
const END: &str = "# <<< provision init";

/// The template with its placeholders replaced. A placeholder in a value stays as it is.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('@') {
        let known = values.iter().find_map(|(name, value)| {
            let rest = after.strip_prefix(name)?.strip_prefix('@')?;
            Some((*value, rest))
        });
        let (value, behind) = known.unwrap_or(("@", after));
        text.extend([before, value]);
        rest = behind;
    }
    text + rest
}

/// The value behind `key` in a marked line. `None` if no marked line begins with it.
pub(super) fn marked_value(text: &str, key: &str) -> Option<String> {
    let parts = parts(text)?;
    let mut lines = parts.iter().skip(1).step_by(2).flat_map(|part| part.lines());
    let value = lines.find_map(|line| line.trim().strip_prefix(key))?.trim();
    (!value.is_empty()).then(|| value.to_owned())
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
    fn a_placeholder_in_a_value_stays() {
        let values = [("LOCK", "@LAYERS@/models.lock"), ("LAYERS", "@LOCK@")];
        assert_eq!(fill("a@b @LOCK@ @LAYERS@ @OTHER@", &values), "a@b @LAYERS@/models.lock @LOCK@ @OTHER@");
    }

    #[test]
    fn a_value_is_read_from_marked_lines_only() {
        assert_eq!(marked_value("image: x\n# >>> provision init\n", "image: "), None);
        let text = "image: x\n# >>> provision init\n  image: y # mine\n# <<< provision init\n";
        assert_eq!(marked_value(text, "image: ").as_deref(), Some("y # mine"));
        assert_eq!(marked_value(text, "ARG "), None);
    }

    #[test]
    fn a_difference_names_the_file_and_both_texts() {
        let text = difference("f", "a\nb\n", "a\nc\n");
        assert_eq!(text, "--- f\n+++ f by provision init\n@@ -1,2 +1,2 @@\n a\n-b\n+c");
        assert!(difference("f", "", "a\n").starts_with("--- /dev/null\n"), "{text}");
    }
}
