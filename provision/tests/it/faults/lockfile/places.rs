//! Places that a list or an address asks for and that no file can have (fault 126).

use std::io::{Read as _, Write as _};

use crate::prelude::*;
use crate::program::{start_in_terminal, terminal};

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
        places.lock(&["add", &places.origin.url("/x"), "--path", "vae/x"]).exits(0);
        places
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        command.arg("lock").args(arguments);
        command
    }

    fn lock(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// It is refused with 2 and these words, before any request; the lock stays.
    fn refused(&self, arguments: &[&str], says: &str) {
        self.refused_with(2, arguments, says);
    }

    fn refused_with(&self, code: i32, arguments: &[&str], says: &str) {
        let lock = || std::fs::read_to_string(self.directory.path().join("models.lock")).unwrap();
        let (before, requests) = (lock(), self.origin.counters().requests);
        self.lock(arguments).exits(code).err_has(&[says]);
        assert_eq!(self.origin.counters().requests, requests, "{arguments:?}: a request was sent");
        assert_eq!(lock(), before, "{arguments:?}");
    }
}

#[test]
fn fault_126_a_colliding_place_is_refused_before_the_network() {
    let places = Places::new();
    let (x, loras) = (places.origin.url("/x"), places.origin.url("/loras"));
    for (path, says) in [
        ("VAE/X", "are one file"),
        ("vae/x/y", "\"vae/x\" is a file, so \"vae/x/y\" cannot lie below it"),
        (".models-installed", ".models-installed"),
        ("vae/x/", "is a file, so \"vae/x/x\""),
    ] {
        places.refused(&["add", &x, "--path", path], says);
    }
    // The host knows the names, but no file can lie in these directories.
    places.refused(&["add", "hf:o/r/vae/*", "--path", "vae/x/"], "is a file, so");
    places.refused(&["add", "civitai:7", "--path", "../"], "is not a valid model path");
    // An address whose last part is a folder's name has no folder of its own.
    places.refused(&["add", &loras], "--path FOLDER/");
    // The second of two sources is checked before the first is read.
    places.refused(&["add", &loras, &x, "--path", "VAE/"], "are one file");
    places.refused(&["add", &loras, &x, "--path", "vae/new", "--mirror", &x], "apply to one file");
    places.refused(&["add", &loras, &x, "--path", "mine"], "--path mine/ for a folder");
    places.refused(&["add", &x, "--path", "vae/", "--group", ""], "--group");
    places.lock(&["add", &x, "--path", "mine/y"]).exits(0);
    places.refused(&["add", &x, "--path", "mine"], "\"mine\" is a file, so \"mine/y\"");
}

#[test]
fn fault_126_a_bare_name_of_a_folder_is_the_folder() {
    let places = Places::new();
    places.origin.put("/l.safetensors", Content::generated(3, 1000));
    let url = places.origin.url("/l.safetensors");
    for (path, expected) in [("loras", "loras/"), ("Optical_Flow", "optical_flow/"), ("mine/", "mine/")] {
        places
            .lock(&["add", &url, "--path", path])
            .exits(0)
            .out_has(&[&format!("added      {expected}l.safetensors")]);
    }
    for (path, dest, warns) in
        [("models/vae/", "models", true), ("models/vae/", "m", false), ("x/", "models", false)]
    {
        let added = places.lock(&["add", &url, "--path", path, "--dest", dest]).exits(0);
        assert_eq!(added.err.contains("the file will be at models/models/vae/"), warns, "{}", added.err);
    }
    // A folder or a file's name: nothing is guessed.
    for path in ["loras/flux", "mine2"] {
        let says = format!("--path {path}/\n  or\n    provision lock add {url} --path {path}.safetensors");
        places.refused(&["add", &url, "--path", path], &says);
    }
}

#[test]
fn fault_126_a_person_is_asked_for_the_meaning_of_a_path() {
    let places = Places::new();
    places.origin.put("/l.safetensors", Content::generated(3, 1000));
    let url = places.origin.url("/l.safetensors");
    for (answer, code, added) in [
        ("1\n", 0, "added      loras/flux/l.safetensors"),
        ("2\n", 0, "added      loras/flux.safetensors"),
        ("\n", 2, ""),
    ] {
        let (mut user, side) = terminal();
        let mut command = places.command(&["add", &url, "--path", "loras/flux", "--sha256"]);
        command.arg(Content::generated(3, 1000).sha256_hex());
        let running = start_in_terminal(&mut command, side);
        user.write_all(answer.as_bytes()).unwrap();
        // The terminal has room for all that is said.
        running.end().exits(code).out_has(&[added]);
        drop(command);
        let mut said = Vec::new();
        // The error of a terminal that no program has open.
        let _ = user.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("1  loras/flux/l.safetensors") && said.contains("1 or 2:"), "{said}");
    }
}

#[test]
fn fault_126_an_import_takes_the_path_of_one_source() {
    let places = Places::new();
    let (x, loras) = (places.origin.url("/x"), places.origin.url("/loras"));
    let text = format!("{x}?v=1\n  dir=vae\n  out=y\n{loras}\n  dir=vae\n  out=y\n");
    std::fs::write(places.directory.path().join("list"), text).unwrap();
    let import = ["import", "list", "--format", "aria2", "--allow-private"];
    places.lock(&import).exits(2).err_has(&["--path-of"]);
    let of = |source: &str, path: &str| format!("--path-of={source}={path}");
    // A whole path, and a folder that gets the list's name.
    let chosen = [of(&format!("{x}?v=1"), "vae/one"), of(&loras, "loras")];
    places
        .lock(&[&import[..], &[&chosen[0], &chosen[1]]].concat())
        .exits(0)
        .out_has(&["added      vae/one ", "added      loras/y "]);
    let unknown = of("hf:o/r/x", "vae/z");
    places
        .lock(&[&import[..], &[&chosen[0], &chosen[1], &unknown]].concat())
        .exits(2)
        .err_has(&["--path-of hf:o/r/x: no list names this source"]);
}

#[test]
fn fault_53_an_option_with_a_secret_address_hides_it() {
    let places = Places::new();
    let x = places.origin.url("/x");
    std::fs::write(places.directory.path().join("list"), format!("{x}?v=CANARY\n  dir=vae\n  out=x\n"))
        .unwrap();
    let user = x.replace("://", "://u:CANARY@");
    for (value, says) in [
        (format!("{x}?v=CANARY"), "/x?…: no list names this source"),
        (format!("{x}?v=CANARY="), "/x?…: no list names this source"),
        (format!("{x}?v=CAN=ARY"), "/x?…: no list names this source"),
        (format!("{x}?other=CANARY=vae/z"), "/x?…: no list names this source"),
        ("x?v=CANARY=vae/z".to_owned(), "--path-of: "),
        ("CANARY".to_owned(), "--path-of: it has the form SOURCE=PATH"),
        (user.clone(), "--path-of: it has the form SOURCE=PATH"),
        (format!("{user}=vae/z"), "--path-of: "),
    ] {
        let ended =
            places.lock(&["import", "list", "--format=aria2", "--allow-private", "--path-of", &value]);
        assert_eq!(ended.code, Some(2), "{value}: {}", ended.err);
        assert!(ended.err.contains(says), "{value}: {}", ended.err);
        assert!(!ended.err.contains("CAN") && !ended.err.contains("ARY"), "{value}: {}", ended.err);
    }
    let value = format!("{x}?v=CANARY=mine/a=b");
    places
        .lock(&["import", "list", "--format=aria2", "--allow-private", "--path-of", &value])
        .exits(0)
        .out_has(&["added      mine/a=b"]);
}

#[test]
fn fault_126_a_chosen_path_is_read_as_the_one_of_add() {
    let places = Places::new();
    places.origin.put("/l.safetensors", Content::generated(3, 1000));
    let url = places.origin.url("/l.safetensors");
    std::fs::write(places.directory.path().join("list"), format!("{url}\n  dir=vae\n  out=l.safetensors\n"))
        .unwrap();
    let import = |path: &str| {
        places.lock(&[
            "import",
            "list",
            "--format=aria2",
            "--allow-private",
            &format!("--path-of={url}={path}"),
        ])
    };
    import("loras/flux").exits(2).err_has(&[&format!("lock add {url} --path loras/flux.safetensors")]);
    // Only the paths of lists begin with the destination's name.
    import("models/vae/q.safetensors").out_has(&["added      models/vae/q.safetensors"]);
}

#[test]
fn fault_126_a_printed_command_names_the_source_or_none() {
    let places = Places::new();
    places.origin.put("/l.safetensors", Content::generated(3, 1000));
    let query = format!("{}?v=1", places.origin.url("/l.safetensors"));
    let hostile = places.origin.url("/$(touch%20x);reboot");
    std::fs::write(places.directory.path().join("list"), format!("{hostile}\n{query}\n")).unwrap();
    let listed = places.lock(&["import", "list", "--format=urls", "--allow-private"]).exits(2);
    for says in [
        format!("`provision lock add '{hostile}' --path FOLDER/`"),
        "`provision lock add SOURCE --path FOLDER/`, where SOURCE is its whole address".to_owned(),
    ] {
        assert!(listed.err.contains(&says), "{says}: {}", listed.err);
    }
    let added = places.lock(&["add", &query, "--path", "loras/flux"]).exits(2);
    for path in ["loras/flux/", "loras/flux.safetensors"] {
        added.err_has(&[&format!("provision lock add SOURCE --path {path}")]);
    }
    added.err_lacks(&["add http"]);
}

#[test]
fn fault_126_an_inline_lock_is_refused_before_the_network() {
    let places = Places::new();
    std::fs::write(places.directory.path().join("models.lock"), "version = 1\nmodel = []\n").unwrap();
    places.refused_with(3, &["add", &places.origin.url("/x"), "--path", "vae/x"], "inline array");
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
    places.lock(&both).exits(2).out_has(&["added      a/b"]).err_has(&["is a file, so"]);
}
