//! The layers that the Dockerfile makes, compared with the directories of the lock.
//!
//! A layer is a line `COPY --from=models /layers/NAME/ /`, and `NAME` the first directory of paths in the lock. For a
//! superfluous line docker fails at the end of a long build. For a missing line it never fails: the image lacks models.

use provision::cli::layers::layer_sizes;
use provision_core::lockfile::Lockfile;

/// The `models` stage has a tree for each layer below this directory.
const TREES: &str = "/layers/";

/// A directory of models that becomes a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// The layers that the lock needs, the largest first. The Dockerfile must make exactly these; otherwise the error
/// lists the lines to add and to remove.
pub(crate) fn expected(lock: &Lockfile, dockerfile: &str) -> Result<Vec<Layer>, String> {
    let sizes = layer_sizes(lock.models());
    let copied = copied(dockerfile);
    let missing = sizes.keys().filter(|name| !copied.iter().any(|copied| copied == *name)).map(|name| {
        format!("\n  the image would lack {name}/: add `COPY --link --from=models {TREES}{name}/ /`")
    });
    let superfluous = copied.iter().filter(|name| !sizes.contains_key(name.as_str())).map(|name| {
        format!("\n  the lock has no model in {name}/: remove the line that copies {TREES}{name}/")
    });
    let differences: String = missing.chain(superfluous).collect();
    if !differences.is_empty() {
        return Err(format!("the Dockerfile and the lock do not agree:{differences}"));
    }
    let mut layers: Vec<_> =
        sizes.into_iter().map(|(name, size)| Layer { name: name.to_owned(), size }).collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    Ok(layers)
}

/// The directories that the Dockerfile copies from the `models` stage, in its order.
fn copied(dockerfile: &str) -> Vec<String> {
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        let is_copy = words.next()?.eq_ignore_ascii_case("COPY");
        let (flags, paths): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
        let &[source, "/"] = paths.as_slice() else { return None };
        (is_copy && flags.contains(&"--from=models")).then(|| tree(source))?
    };
    dockerfile.lines().filter_map(name).collect()
}

/// The layer's name in a path of the `models` stage.
fn tree(path: &str) -> Option<String> {
    let name = path.strip_prefix(TREES)?.trim_end_matches('/');
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// The model layers of a built image, the lowest first, from `docker history` with lines of `SIZE CREATED_BY`.
pub(crate) fn built(history: &str) -> Vec<Layer> {
    let layer = |line: &str| {
        let mut words = line.split_whitespace();
        let size = words.next()?.parse().ok()?;
        let name = words.find_map(tree)?;
        Some(Layer { name, size })
    };
    history.lines().rev().filter_map(layer).collect()
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
        let layers = expected(&lock, &dockerfile).unwrap();
        assert_eq!(copied(&dockerfile), layers.into_iter().map(|layer| layer.name).collect::<Vec<_>>());
    }

    #[test]
    fn a_layer_has_the_size_of_its_files() {
        let lock = lock(&[("a/one", 1), ("a/two/three", 2), ("b/four", 4)]);
        let text = "COPY --from=models /layers/b/ /\nCOPY --link --from=models /layers/a/ /\n";
        let layer = |name: &str, size| Layer { name: name.to_owned(), size };
        assert_eq!(expected(&lock, text), Ok(vec![layer("b", 4), layer("a", 3)]));
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
        let message = expected(&lock, text).unwrap_err();
        assert!(message.contains("add `COPY --link --from=models /layers/b/ /`"), "{message}");
        assert!(message.contains("the lock has no model in c/"), "{message}");
        assert!(message.contains("/layers/_/ /"), "{message}");
        assert!(!message.contains("/layers/a/"), "{message}");
    }

    #[test]
    fn a_built_image_lists_its_model_layers() {
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
