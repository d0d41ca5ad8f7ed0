use crate::cli::exit::Code;
use camino::Utf8PathBuf;

use provision_core::lockfile::Selection;

use super::*;

const LOCK: &str = include_str!("../../../../models.lock");

fn lock() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().join("models.lock")).unwrap();
    std::fs::write(&path, LOCK).unwrap();
    (directory, path)
}

fn named(models: &[&str]) -> Selection {
    Selection { patterns: models.iter().map(ToString::to_string).collect(), groups: Vec::new() }
}

#[test]
fn models_are_removed_by_path_stem_or_glob_the_rest_stays() {
    let (_directory, path) = lock();
    let removed = remove::remove(&path, &named(&["qwen_image_vae", "loras/*"])).unwrap();
    let removed: Vec<&str> = removed.iter().map(provision_core::model_path::ModelPath::as_str).collect();
    assert_eq!(
        removed,
        ["loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", "vae/qwen_image_vae.safetensors"]
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let mut paragraphs: Vec<&str> = LOCK.trim_end().split("\n\n").collect();
    paragraphs
        .retain(|paragraph| !paragraph.contains("path = \"loras/") && !paragraph.contains("path = \"vae/"));
    assert_eq!(text.trim_end(), paragraphs.join("\n\n"));
}

#[test]
fn what_is_not_there_is_not_removed_and_nothing_else_is() {
    let (_directory, path) = lock();
    let failure = remove::remove(&path, &named(&["loras/*", "typo"])).unwrap_err();
    assert_eq!(failure.code as u8, Code::Usage as u8);
    assert!(failure.message.contains("typo"), "{}", failure.message);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), LOCK);
    std::fs::write(&path, "version = 2\n").unwrap();
    let failure = remove::remove(&path, &named(&["x"])).unwrap_err();
    assert_eq!(failure.code as u8, Code::Lock as u8);
}

#[test]
fn standard_input_is_read_and_not_written() {
    let file = LockFile { lock: Some("-".into()) };
    assert_eq!(file.writable("models.lock").unwrap_err().code as u8, Code::Usage as u8);
    assert_eq!(LockFile { lock: None }.writable("models.lock").unwrap(), "models.lock");
}
