//! The layers that the Dockerfile makes, compared with the directories of the lock.
//!
//! A layer is a line `COPY --from=models /layers/NAME/ /`, and `NAME` the first directory of paths in the lock. For a
//! superfluous line docker fails at the end of a long build. For a missing line it never fails: the image lacks models.

use std::cmp::Reverse;

use provision::cli::exit::Failure;
use provision::cli::layers::{compare, layer_sizes};
use provision_core::lockfile::Lockfile;

/// The `models` stage has a tree for each layer below this directory.
const TREES: &str = "/layers/";

/// The layers that the lock needs and their bytes, the largest first.
///
/// # Errors
/// The Dockerfile makes others.
pub(crate) fn of<'l>(lock: &'l Lockfile, dockerfile: &str) -> Result<Vec<(&'l str, u64)>, Failure> {
    let sizes = layer_sizes(lock.models());
    let way_out = "it has a line `COPY --link --from=models /layers/NAME/ /` for each of its layers";
    compare(&sizes.keys().copied().collect(), &dockerfile.lines().filter_map(copied).collect(), way_out)?;
    let mut layers: Vec<_> = sizes.into_iter().collect();
    layers.sort_by_key(|(_, size)| Reverse(*size));
    Ok(layers)
}

/// The directory that a line of the Dockerfile copies from the `models` stage to the root.
fn copied(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let is_copy = words.next()?.eq_ignore_ascii_case("COPY");
    let (flags, paths): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
    let &[source, "/"] = &paths[..] else { return None };
    let name = source.strip_prefix(TREES)?.trim_end_matches('/');
    (is_copy && flags.contains(&"--from=models") && !name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project;

    fn lock(paths: &[(&str, u64)]) -> Lockfile {
        let model = |(path, size): &(&str, u64)| {
            format!(
                "[[model]]\npath = \"{path}\"\nurl = \"https://host/{path}\"\nsize = {size}\nsha256 = \"{}\"\n",
                "0".repeat(64)
            )
        };
        let models: String = paths.iter().map(model).collect();
        Lockfile::parse("models.lock", &format!("version = 1\n{models}")).unwrap()
    }

    fn project_file(name: &str) -> String {
        std::fs::read_to_string(project::root().join(name)).unwrap()
    }

    #[test]
    fn the_project_has_a_layer_for_each_directory_largest_first() {
        let lock = Lockfile::parse("models.lock", &project_file("models.lock")).unwrap();
        let dockerfile = project_file("Dockerfile");
        let layers = of(&lock, &dockerfile).unwrap();
        let names: Vec<_> = layers.iter().map(|(name, _)| *name).collect();
        assert_eq!(dockerfile.lines().filter_map(copied).collect::<Vec<_>>(), names);
    }

    #[test]
    fn a_layer_has_the_size_of_its_files() {
        let lock = lock(&[("a/one", 1), ("a/two/three", 2), ("b/four", 4)]);
        let text = "COPY --from=models /layers/b/ /\nCOPY --link --from=models /layers/a/ /\n";
        assert_eq!(of(&lock, text).unwrap(), [("b", 4), ("a", 3)]);
    }

    #[test]
    fn missing_and_superfluous_lines_are_listed_with_the_fix() {
        let lock = lock(&[("a/one", 1), ("b/two", 2), ("three", 3)]);
        let text = "\
# COPY --link --from=models /layers/b/ /
COPY --from=build /layers/b/ /
COPY --link --from=models /layers/a/ /
copy --from=models --link /layers/c /
";
        let message = of(&lock, text).unwrap_err().to_string();
        for part in ["no layer for _/, b/,", "no model in c/;", "`COPY --link --from=models /layers/NAME/ /`"]
        {
            assert!(message.contains(part), "{message}");
        }
    }
}
