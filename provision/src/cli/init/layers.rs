//! The model directories of a lock as lines of a Dockerfile: the expected layers, and a `COPY` for each, the
//! largest first.
//!
//! `BuildKit` expands variables and patterns in the paths of `COPY`, also in its JSON form. A name with such
//! characters has no form that every frontend reads alike, so it is refused.

use std::cmp::Reverse;

use crate::cli::exit::{Code, Failure};
use provision_core::lockfile::Lockfile;
use provision_disk::layer_sizes;

/// The name and the size of each layer, the largest first. Never empty.
pub(super) struct Layers<'a>(Vec<(&'a str, u64)>);

/// The layers of `lock`.
///
/// # Errors
/// The lock has no model, or a directory whose name a Dockerfile cannot have.
pub(super) fn of(lock: &Lockfile) -> Result<Layers<'_>, Failure> {
    let sizes = layer_sizes(lock.models());
    if sizes.is_empty() {
        let why =
            "the lock has no model yet, so a Dockerfile would have no layer: add models to the lock first";
        return Err(Failure::new(Code::Usage, why));
    }
    // A comma separates the names of `--expect-layers`.
    if let Some(name) = sizes.keys().find(|name| !fits_dockerfile(name) || name.contains(',')) {
        let why =
            format!("a Dockerfile cannot copy {name}/: rename that directory in the lock (no {UNFIT} or ,)");
        return Err(Failure::new(Code::Usage, why));
    }
    let mut layers: Vec<_> = sizes.into_iter().collect();
    layers.sort_by_key(|(name, size)| (Reverse(*size), *name));
    Ok(Layers(layers))
}

/// The characters that a builder does not take literally in a path.
const UNFIT: &str = "$ ' ` \" \\ * ? [ ]";

/// Returns true if a builder takes the path literally between double quotes.
pub(super) fn fits_dockerfile(path: &str) -> bool {
    !path.is_empty() && !path.chars().any(|c| c.is_control() || (c != ' ' && UNFIT.contains(c)))
}

/// A volume's size for the lock, in the notation of Kubernetes: a tenth more than the models, in whole GiB.
pub(super) fn storage(lock: &Lockfile) -> String {
    let total: u64 = lock.models().iter().map(|model| model.size).sum();
    format!("{}Gi", ((total / 10 * 11) >> 30) + 1)
}

impl Layers<'_> {
    /// The line that makes `fetch` compare the lock with these layers.
    pub(super) fn expected(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        format!("ENV PROVISION_EXPECT_LAYERS=\"{}\"", names.join(","))
    }

    /// A line for each layer.
    pub(super) fn copies(&self) -> String {
        let line =
            |(name, _): &(&str, u64)| format!("COPY --link --from=models [\"/layers/{name}/\", \"/\"]");
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The layers with more than this number of bytes.
    pub(super) fn above(&self, limit: u64) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().copied().filter(move |(_, size)| *size > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(paths: &[(&str, u64)]) -> Lockfile {
        let model = |(path, size): &(&str, u64)| {
            format!(
                "[[model]]\npath = \"{path}\"\nurl = \"https://host/x\"\nsize = {size}\nsha256 = \"{}\"\n",
                "0".repeat(64)
            )
        };
        let models: String = paths.iter().map(model).collect();
        Lockfile::parse("models.lock", &format!("version = 1\n{models}")).unwrap()
    }

    #[test]
    fn the_largest_directory_comes_first_and_spaces_are_quoted() {
        let lock = lock(&[("vae/x", 3), ("my nodes/a", 2), ("my nodes/b/c", 2), ("top", 1)]);
        let layers = of(&lock).unwrap();
        assert_eq!(layers.expected(), "ENV PROVISION_EXPECT_LAYERS=\"my nodes,vae,_\"");
        let expected = ["my nodes", "vae", "_"]
            .map(|name| format!("COPY --link --from=models [\"/layers/{name}/\", \"/\"]"));
        assert_eq!(layers.copies(), expected.join("\n"));
        assert_eq!(layers.above(2).collect::<Vec<_>>(), [("my nodes", 4), ("vae", 3)]);
    }

    #[test]
    fn a_name_that_a_builder_would_expand_is_refused() {
        for name in ["a$b", "it's", "a[1]", "a,b", "`x`"] {
            let lock = lock(&[(&format!("{name}/x"), 1)]);
            let failure = of(&lock).err().unwrap();
            assert!(failure.code == Code::Usage && failure.message.contains(name), "{failure}");
        }
        assert!(of(&lock(&[])).is_err());
        for name in ["Größe", "a (b)", "a#b", "-x", "a=b&c"] {
            assert!(of(&lock(&[(&format!("{name}/x"), 1)])).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_volume_has_room_for_the_models_and_a_part() {
        assert_eq!(storage(&lock(&[])), "1Gi");
        assert_eq!(storage(&lock(&[("x", 31_800_000_000)])), "33Gi");
    }
}
