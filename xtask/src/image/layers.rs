//! What the Dockerfile makes layers of, against what the lock has.
//!
//! A layer is a line `COPY --from=models /layers/NAME/ /`, and `NAME` a directory that the paths of the lock begin
//! with. Docker would notice a line too many at the end of a long build, and a line too few never: the image would
//! only lack models.

use std::collections::BTreeMap;
use std::fmt;

use provision_core::lockfile::Lockfile;

/// The layer of models that lie right below the destination, as `provision fetch --layers` names it.
const ROOT: &str = "_";

/// Where the `models` stage lays out a tree for each layer.
const TREES: &str = "/layers/";

/// A directory of models that becomes a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// Why Dockerfile and lock do not fit together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Directories of the lock without a line.
    missing: Vec<String>,
    /// Lines without a directory in the lock.
    dangling: Vec<String>,
}

/// The layers that the lock asks for, the largest first, if the Dockerfile makes exactly these.
pub(crate) fn fitting(lock: &Lockfile, dockerfile: &str) -> Result<Vec<Layer>, Mismatch> {
    let mut sizes = BTreeMap::new();
    for model in lock.models() {
        let name = model.path.as_str().split_once('/').map_or(ROOT, |(top, _)| top);
        *sizes.entry(name.to_owned()).or_default() += model.size;
    }
    let lines = copied(dockerfile);
    let missing: Vec<_> = sizes.keys().filter(|name| !lines.contains(name)).cloned().collect();
    let dangling: Vec<_> = lines.into_iter().filter(|name| !sizes.contains_key(name)).collect();
    if !(missing.is_empty() && dangling.is_empty()) {
        return Err(Mismatch { missing, dangling });
    }
    let mut layers: Vec<_> = sizes.into_iter().map(|(name, size)| Layer { name, size }).collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    Ok(layers)
}

/// The directories that the Dockerfile copies from the `models` stage, in its order.
pub(crate) fn copied(dockerfile: &str) -> Vec<String> {
    dockerfile.lines().filter_map(copied_by).collect()
}

fn copied_by(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let is_copy = words.next()?.eq_ignore_ascii_case("COPY");
    let (flags, places): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
    let &[source, "/"] = places.as_slice() else { return None };
    (is_copy && flags.contains(&"--from=models")).then(|| tree(source))?
}

/// The directory whose tree lies at this place of the `models` stage.
fn tree(source: &str) -> Option<String> {
    let name = source.strip_prefix(TREES)?.trim_end_matches('/');
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// The layers of a built image, the lowest first, by what `docker history` says that made them: `SIZE CREATED_BY`.
pub(crate) fn built(history: &str) -> Vec<Layer> {
    let layer = |line: &str| {
        let mut words = line.split_whitespace();
        let size = words.next()?.parse().ok()?;
        let name = words.find(|word| word.starts_with(TREES)).and_then(tree)?;
        Some(Layer { name, size })
    };
    history.lines().rev().filter_map(layer).collect()
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Dockerfile and the lock do not fit together:")?;
        for name in &self.missing {
            write!(
                f,
                "\n  {name}/ of the lock would not be in the image: add `COPY --link --from=models {TREES}{name}/ /`"
            )?;
        }
        for name in &self.dangling {
            write!(f, "\n  {TREES}{name}/ is copied, and the lock has no model in {name}/: remove the line")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

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
    fn every_directory_of_the_projects_lock_has_its_line_the_largest_first() {
        let lock = Lockfile::parse("models.lock", &project_file("models.lock")).unwrap();
        let dockerfile = project_file("Dockerfile");
        let layers = fitting(&lock, &dockerfile).unwrap_or_else(|mismatch| panic!("{mismatch}"));
        assert_eq!(copied(&dockerfile), layers.into_iter().map(|layer| layer.name).collect::<Vec<_>>());
    }

    #[test]
    fn a_layer_is_as_large_as_its_files() {
        let lock = lock(&[("a/one", 1), ("a/two/three", 2), ("b/four", 4)]);
        let text = "COPY --from=models /layers/b/ /\nCOPY --link --from=models /layers/a/ /\n";
        let layer = |name: &str, size| Layer { name: name.to_owned(), size };
        assert_eq!(fitting(&lock, text), Ok(vec![layer("b", 4), layer("a", 3)]));
    }

    #[test]
    fn a_line_too_few_and_a_line_too_many_are_told_with_the_remedy() {
        let lock = lock(&[("a/one", 1), ("b/two", 2), ("three", 3)]);
        let text = "\
# COPY --link --from=models /layers/b/ /
COPY --from=build /layers/b/ /
COPY --link --from=models /layers/a/ /
copy --from=models --link /layers/c /
";
        let message = fitting(&lock, text).unwrap_err().to_string();
        assert!(message.contains("add `COPY --link --from=models /layers/b/ /`"), "{message}");
        assert!(message.contains("the lock has no model in c/"), "{message}");
        assert!(message.contains("/layers/_/ /"), "{message}");
        assert!(!message.contains("/layers/a/"), "{message}");
    }

    #[test]
    fn a_built_image_says_what_its_layers_are() {
        let history = "\
253806246 COPY /layers/vae/ / # buildkit
1698951104 COPY /layers/loras/ / # buildkit
0 ENV PROVISION_DEST=/layers/x
14 /bin/sh -c #(nop) CMD [\"bash\"]
";
        let names: Vec<_> = built(history).into_iter().map(|layer| (layer.name, layer.size)).collect();
        assert_eq!(names, [("loras".to_owned(), 1_698_951_104), ("vae".to_owned(), 253_806_246)]);
    }
}
