//! Places that a list or an address asks for and that no file can have (fault 126).

use std::process::Command;

use provision_testbed::{BlockingOrigin, Content, OriginConfig};

use crate::program::{BINARY, Ended, run};

/// An origin, and a lock that has `vae/x`.
struct Places {
    origin: BlockingOrigin,
    directory: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        let origin = BlockingOrigin::start(OriginConfig::default()).unwrap();
        origin.put("/x", Content::generated(1, 1000));
        origin.put("/loras", Content::generated(2, 1000));
        let places = Self { origin, directory: tempfile::tempdir().unwrap() };
        let added = places.lock(&["add", &places.origin.url("/x"), "--path", "vae/x"]);
        assert_eq!(added.code, Some(0), "{}", added.err);
        places
    }

    fn lock(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        run(command.arg("lock").args(arguments))
    }

    /// It is refused with 2 and these words, before any request; the lock stays.
    fn refused(&self, arguments: &[&str], says: &str) {
        let lock = || std::fs::read_to_string(self.directory.path().join("models.lock")).unwrap();
        let (before, requests) = (lock(), self.origin.counters().requests);
        let ended = self.lock(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{arguments:?}: {}", ended.err);
        assert_eq!(self.origin.counters().requests, requests, "{arguments:?}: a request was sent");
        assert_eq!(lock(), before, "{arguments:?}");
    }
}

#[test]
fn fault_126_a_place_that_collides_is_refused_before_the_network() {
    let places = Places::new();
    let (x, loras) = (places.origin.url("/x"), places.origin.url("/loras"));
    for (path, says) in [
        ("VAE/X", "are one file"),
        ("vae/x/y", "\"vae/x\" is a file, so \"vae/x/y\" cannot lie below it"),
        ("vae", "\"vae\" is the name of a folder; give --path vae/ for a file in it"),
        ("Loras", "\"Loras\" is the name of a folder"),
        (".models-installed", ".models-installed"),
        ("vae/x/", "is a file, so \"vae/x/x\""),
    ] {
        places.refused(&["add", &x, "--path", path], says);
    }
    places.refused(&["add", "hf:o/r/vae/*", "--path", "vae"], "is the name of a folder");
    places.refused(&["add", "civitai:7", "--path", "checkpoints"], "is the name of a folder");
    // An address whose last part is a folder's name has no folder of its own.
    places.refused(&["add", &loras], "--path FOLDER/");
    let other = places.lock(&["add", &x, "--path", "mine/y"]);
    assert_eq!(other.code, Some(0), "{}", other.err);
    places.refused(&["add", &x, "--path", "mine"], "\"mine\" is a file, so \"mine/y\"");
}

#[test]
fn fault_126_a_list_that_collides_is_refused_before_the_network() {
    let places = Places::new();
    let x = places.origin.url("/x");
    let list = |text: &str| {
        std::fs::write(places.directory.path().join("list"), text).unwrap();
        ["import", "list", "--format", "aria2", "--allow-private"]
    };
    places.refused(&list(&format!("{x}\n  dir=vae\n  out=X\n")), "are one file");
    places.refused(&list(&format!("{x}\n  dir=vae/x\n  out=y\n")), "is a file, so");
    // Of two that exclude each other the first one is added.
    let both = list(&format!("{x}\n  dir=a\n  out=b\n{x}\n  dir=a/b\n  out=c\n"));
    let ended = places.lock(&both);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.out.contains("added      a/b") && ended.err.contains("is a file, so"), "{}", ended.err);
}
