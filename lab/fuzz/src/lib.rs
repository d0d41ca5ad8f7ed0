//! The parts that the fuzz targets share: the limits of an input, its text, and the properties of a model's path.
//!
//! No input panics: cargo-fuzz turns on overflow checks and debug assertions. Each target also asserts what its parser
//! promises, so a wrong answer without a panic is found, too. [`bounded`] limits memory and processor time; libFuzzer
//! ends an input that hangs (`-timeout`).

mod limits;

use std::path::{Component, Path};

use provision_core::model_path::{ModelPath, NAME_MAX};

pub use limits::{bounded, processor_time};

/// The longest prefix of `data` that is UTF-8. Lossy conversion would turn most inputs into the same characters.
#[must_use]
pub fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The properties of every accepted path.
pub fn stays_beneath(path: &ModelPath) {
    let destination = Path::new("/destination");
    let joined = destination.join(path.as_str());
    let below = joined.strip_prefix(destination).expect("beneath the destination");
    assert!(below.components().all(|component| matches!(component, Component::Normal(_))), "{path:?}");
    assert_eq!(below.components().count(), path.components().count(), "{path:?}");
    for component in path.components() {
        assert!(!component.is_empty() && component.len() <= NAME_MAX, "{component:?}");
        assert!(!matches!(component, "." | "..") && !component.contains(['/', '\\', '\0', ':']));
        let lower = component.to_lowercase();
        let is_ours = [".part", ".journal", ".lock", ".tmp"].iter().any(|end| lower.ends_with(end));
        assert!(!(lower.starts_with('.') && is_ours), "{component:?} is a working file's name");
    }
    assert!(path.as_str().ends_with(path.file_name()));
    let parent = path.parent();
    assert!(parent.is_empty() || path.as_str() == format!("{parent}/{}", path.file_name()));
    assert_eq!(path.as_str().parse::<ModelPath>().as_ref(), Ok(path));
    assert!(!path.as_str().chars().any(char::is_control));
    // On a system that ignores case, a directory and a file in it are still two paths.
    let key = path.collision_key();
    assert_eq!(key.matches('/').count(), path.as_str().matches('/').count(), "{key:?}");
}
