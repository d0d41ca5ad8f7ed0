//! Paths: an accepted path, joined to a destination, stays beneath it and names one file on every system.

use std::path::{Component, Path};

use provision_core::model_path::{ModelPath, NAME_MAX};

use crate::text;

/// An input is a path.
pub fn check(data: &[u8]) {
    let path = text(data);
    match path.parse::<ModelPath>() {
        Ok(accepted) => {
            assert_eq!(accepted.as_str(), path, "the path was changed");
            stays_beneath(&accepted);
        }
        // Errors are printed to a terminal.
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
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
