//! Paths of the project's files.

use camino::Utf8Path;

/// The workspace's root.
pub(crate) fn root() -> &'static Utf8Path {
    let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The project's own lock.
pub(crate) fn lock() -> String {
    root().join("models.lock").into_string()
}
