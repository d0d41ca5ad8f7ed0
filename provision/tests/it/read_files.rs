//! Files whose digest no host publishes: what a lock verb says before it reads them, and where their bytes lie
//! afterwards.

use std::os::unix::fs::MetadataExt as _;

use crate::lock_commands::{Fixture, has};
use crate::prelude::*;

const PATH: &str = "/vae/y.bin";

/// A fixture whose site has a file of 1.5 MB without a digest; and its URL.
fn fixture() -> (Fixture, String, Content) {
    let fixture = Fixture::new();
    let content = Content::generated(3, 1_500_000);
    fixture.site.put(PATH, content.clone());
    let url = fixture.site.url(PATH);
    (fixture, url, content)
}

fn body_bytes(fixture: &Fixture) -> u64 {
    fixture.site.counters().body_bytes_sent
}

/// The path of a file in the user's cache.
fn object(fixture: &Fixture, content: &Content) -> PathBuf {
    let digest = content.sha256_hex();
    fixture.path(".cache/provision/sha256").join(&digest[..2]).join(&digest)
}

/// The models in the cache, by `cache list`.
fn cached(fixture: &Fixture) -> String {
    fixture.run(0, &["cache", "list"]).out
}

#[test]
fn read_bytes_are_found_by_a_fetch_into_any_destination() {
    let (fixture, url, content) = fixture();
    let Ended { out, err, .. } = fixture.run(0, &["lock", "add", &url]);
    has(&out, &["added      vae/y.bin  1.5 MB"]);
    let cache = fixture.path(".cache/provision");
    let says = format!(
        "vae/y.bin: its host publishes no digest, so 1.5 MB are read once and kept in {} for the next fetch;",
        cache.display()
    );
    has(&err, &[&says, &format!("reading vae/y.bin, 1.5 MB, from {url}\nread vae/y.bin: 1.5 MB in ")]);
    assert!(!err.contains("fetched"), "nothing is installed: {err}");
    assert!(!fixture.path("models").exists(), "the cache has the bytes");
    let requests = fixture.site.counters().requests;
    for (command, dest) in [("fetch", "one"), ("ensure", "two")] {
        let plan = fixture.run(0, &[command, "--dest", dest, "--dry-run"]).out;
        has(&plan, &["copy     vae/y.bin", "0 B to fetch"]);
        fixture.run(0, &[command, "--dest", dest, "--offline"]).err_has(&["1 from the cache"]);
        assert_eq!(std::fs::read(fixture.path(dest).join("vae/y.bin")).unwrap(), content.to_vec());
    }
    assert_eq!(fixture.site.counters().requests, requests);
    // One file under several names.
    assert_eq!(std::fs::metadata(fixture.path("one/vae/y.bin")).unwrap().nlink(), 3);
    has(&cached(&fixture), &["1.5 MB", "also 2 names elsewhere: vae/y.bin", "1 file"]);
    fixture.run(0, &["cache", "prune", "--all"]).out_has(&["removed 1 file"]);
    has(&cached(&fixture), &["0 files"]);
}

#[test]
fn an_interrupted_read_in_the_cache_is_resumed() {
    let (fixture, url, content) = fixture();
    fixture.site.inject(PATH, Fault::CutBody(1_200_000).when(When::After(1)));
    fixture.run(4, &["lock", "add", &url, "--retries", "1"]);
    std::fs::write(fixture.path("models.lock"), "version = 1\n").unwrap();
    has(&cached(&fixture), &["partial"]);
    fixture.site.clear_faults(PATH);
    let before = body_bytes(&fixture);
    let err = fixture.run(0, &["lock", "add", &url]).err;
    has(&err, &["so the last 300 kB of 1.5 MB are read", "resuming vae/y.bin"]);
    assert!(body_bytes(&fixture) - before < 600_000);
    has(&fixture.lock(), &[&content.sha256_hex()]);
    assert!(!cached(&fixture).contains("partial"), "{}", cached(&fixture));
}

#[test]
fn without_a_home_the_bytes_stay_below_the_destination() {
    for home in [None, Some("/"), Some("relative")] {
        let (fixture, url, _) = fixture();
        let command = |args: &[&str]| {
            let mut command = fixture.command(args);
            command.env_remove("HOME");
            command.envs(home.map(|home| ("HOME", home)));
            run(&mut command).exits(0)
        };
        command(&["lock", "add", &url]).err_has(&["kept in ", "/models for the next fetch"]);
        assert!(!fixture.path(".cache").exists() && !fixture.path("relative").exists());
        let requests = fixture.site.counters().requests;
        command(&["fetch"]);
        let args = ["cache", "list"];
        run(fixture.command(&args).env("HOME", "/")).exits(2).err_has(&["give --cache DIR"]);
        assert_eq!(fixture.site.counters().requests, requests);
    }
}

/// The layer of a container that ends with this command, as of `docker run --rm` and of a `RUN` in a Dockerfile.
#[test]
fn a_containers_own_layer_has_no_cache_of_the_user() {
    if !needs_root() {
        return;
    }
    let (fixture, url, _) = fixture();
    for name in ["lower", "upper", "work", "home"] {
        std::fs::create_dir(fixture.path(name)).unwrap();
    }
    let mount = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work home || exit 99";
    for (script, is_kept) in [
        ("exec \"$@\"", false),
        ("\"$@\"; exit $?", false),
        ("sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?", true),
    ] {
        let program = fixture.command(&["lock", "add", &url]);
        let mut container = Command::new("unshare");
        container.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
        container.arg(format!("{mount}; {script}")).arg("sh");
        container.arg(program.get_program()).args(program.get_args());
        container.current_dir(fixture.path("")).env_clear();
        container.envs(environment(&program));
        container.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", fixture.path("home"));
        let ended = run(&mut container);
        if !needs("overlay mounts", ended.code != Some(99)) {
            return;
        }
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let place = if is_kept { "home/.cache/provision for the" } else { "/models for the" };
        has(&ended.err, &[place]);
        assert_eq!(fixture.path("upper/.cache").exists(), is_kept, "{script}");
    }
}

#[test]
fn the_cache_of_a_read_is_chosen_by_option_and_variables() {
    let (fixture, url, _) = fixture();
    let add = |set: &[(&str, &str)], more: &[&str]| {
        let args = [&["lock", "add", &url][..], more].concat();
        let mut command = fixture.command(&args);
        run(command.envs(set.iter().copied())).exits(0);
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    };
    let xdg = fixture.path("xdg");
    add(&[("XDG_CACHE_HOME", xdg.to_str().unwrap())], &[]);
    assert!(xdg.join("provision/sha256").is_dir());
    add(&[("PROVISION_CACHE", "team")], &[]);
    assert!(fixture.path("team/sha256").is_dir());
    add(&[("PROVISION_CACHE", "team")], &["--cache", "mine"]);
    assert!(fixture.path("mine/sha256").is_dir());
    // The XDG specification ignores relative paths.
    add(&[("XDG_CACHE_HOME", "relative")], &[]);
    assert!(!fixture.path("relative").exists() && fixture.path(".cache/provision").is_dir());
}

#[test]
fn the_cache_of_reads_is_bounded_and_the_oldest_go_first() {
    let (fixture, url, content) = fixture();
    let name = |n: u64| format!("/vae/{n}.bin");
    for n in 0..3 {
        fixture.site.put(&name(n), Content::generated(10 + n, 1_000_000));
        let url = fixture.site.url(&name(n));
        let err = fixture.run(0, &["lock", "add", &url, "--cache-size", "2100k"]).err;
        assert_eq!(err.contains("used longest ago"), n == 2, "{err}");
        if n == 0 {
            // The times of two uses must differ.
            let old = std::time::UNIX_EPOCH + Duration::from_hours(400_000);
            let times = std::fs::FileTimes::new().set_accessed(old);
            let object = std::fs::File::open(object(&fixture, &Content::generated(10, 1_000_000)));
            object.unwrap().set_times(times).unwrap();
        }
    }
    let listed = cached(&fixture);
    assert!(!listed.contains("vae/0.bin"), "{listed}");
    has(&listed, &["vae/1.bin", "vae/2.bin", "2 files"]);
    // A larger file than the cache may keep.
    let err = fixture.run(0, &["lock", "add", &url, "--cache-size", "1M"]).err;
    has(&err, &["kept in ", "models for the next fetch"]);
    has(&cached(&fixture), &["2 files"]);
    fixture.site.inject(PATH, Fault::status(404));
    fixture.run(0, &["fetch", "y"]);
    assert_eq!(std::fs::read(fixture.path("models/vae/y.bin")).unwrap(), content.to_vec());
}

#[test]
fn a_read_removes_no_object_before_it_has_its_own_file() {
    let (fixture, url, _) = fixture();
    let other = Content::generated(10, 1_000_000);
    fixture.site.put("/vae/0.bin", other.clone());
    fixture.run(0, &["lock", "add", &fixture.site.url("/vae/0.bin")]);
    for fault in [Fault::status(404), Fault::CutBody(100_000)] {
        fixture.site.inject(PATH, fault.when(When::After(1)));
        fixture.run(4, &["lock", "add", &url, "--cache-size", "1600k", "--retries", "1"]);
        fixture.site.clear_faults(PATH);
        assert!(object(&fixture, &other).exists());
    }
    let err = fixture.run(0, &["lock", "add", &url, "--cache-size", "1600k"]).err;
    has(&err, &["removed 1 MB that were used longest ago"]);
    assert!(!object(&fixture, &other).exists());
}

#[test]
fn the_files_of_one_command_do_not_push_each_other_out() {
    let (fixture, _, _) = fixture();
    let files: Vec<_> =
        (0..3).map(|n| (format!("/vae/{n}.bin"), Content::generated(10 + n, 1_000_000))).collect();
    let mut command = fixture.command(&["lock", "add", "--cache-size", "2100k"]);
    for (name, content) in &files {
        fixture.site.put(name, content.clone());
        command.arg(fixture.site.url(name));
    }
    let err = run(&mut command).exits(0).err;
    has(&err, &["warning: vae/2.bin is read into ", "instead of the cache: ", "--cache-size"]);
    assert!(files[..2].iter().all(|(_, content)| object(&fixture, content).exists()));
    let before = body_bytes(&fixture);
    fixture.run(0, &["fetch"]);
    assert_eq!(body_bytes(&fixture), before);
}

#[test]
fn a_read_follows_the_links_that_a_fetch_follows() {
    let (fixture, url, content) = fixture();
    for name in ["models", "volume"] {
        std::fs::create_dir(fixture.path(name)).unwrap();
    }
    std::os::unix::fs::symlink("../volume", fixture.path("models/vae")).unwrap();
    // A run with another destination works in the folder.
    let place = fixture.path("volume");
    let place = Destination::create(place.to_str().unwrap().into()).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(&place).unwrap() else { panic!("held") };
    fixture.run(8, &["lock", "add", &url, "--cache-size", "0"]).err_has(&["another run holds"]);
    drop(guard);
    fixture.run(0, &["lock", "add", &url, "--cache-size", "0"]);
    let before = body_bytes(&fixture);
    fixture.run(0, &["fetch"]);
    assert_eq!(body_bytes(&fixture), before);
    assert_eq!(std::fs::read(fixture.path("volume/y.bin")).unwrap(), content.to_vec());
}

#[test]
fn an_unusable_cache_of_the_user_is_no_failure() {
    let (fixture, url, _) = fixture();
    // A file in its place.
    write(fixture.path(".cache/provision"), "");
    let err = fixture.run(0, &["lock", "add", &url]).err;
    has(&err, &["warning: vae/y.bin is read into ", "instead of the cache: ", "models for the next fetch"]);
    fixture.run(0, &["fetch"]).err_lacks(&["cache"]);
    // Another run works in it.
    std::fs::remove_file(fixture.path(".cache/provision")).unwrap();
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    std::fs::remove_dir_all(fixture.path("models")).unwrap();
    let place = fixture.path(".cache/provision");
    let place = Destination::create(place.to_str().unwrap().into()).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(&place).unwrap() else { panic!("held") };
    let err = fixture.run(0, &["lock", "add", &url]).err;
    has(&err, &["instead of the cache: another run holds", "models for the next fetch"]);
    drop(guard);
    // Wrong bytes under the right name are reported, removed and downloaded.
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    std::fs::remove_dir_all(fixture.path("models")).unwrap();
    fixture.run(0, &["lock", "add", &url]);
    let object = object(&fixture, &Content::generated(3, 1_500_000));
    std::fs::write(&object, Content::generated(4, 1_500_000).to_vec()).unwrap();
    fixture.run(0, &["fetch"]).err_has(&["is not used: it has SHA-256", "fetched vae/y.bin"]);
    assert!(!object.exists());
}

/// The names below the fixture's directory, without the site's own files.
fn names(fixture: &Fixture) -> Vec<String> {
    let entries = std::fs::read_dir(fixture.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_dry_run_of_an_edit_writes_and_reads_nothing() {
    let (fixture, url, _) = fixture();
    let known = Content::generated(1, 300_000);
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", known.clone())]);
    let hub = "hf:o/r@main/vae/x.safetensors";
    let list = format!("{hub}\n{url}\nhf:o/none/vae/z.bin\n");
    std::fs::write(fixture.path("list"), list).unwrap();
    let before = (names(&fixture), body_bytes(&fixture));
    let Ended { out, err, .. } = fixture.run(0, &["lock", "add", hub, &url, "--dry-run"]);
    has(
        &out,
        &[
            "would add     vae/x.safetensors  300 kB  hf:o/r@main/",
            &format!("would read    vae/y.bin  to be read: 1.5 MB  {url}"),
            "models.lock: 1 entry would be added, 300 kB; 1 file to be read first: 1.5 MB; nothing was written",
        ],
    );
    assert_eq!(err, "");
    let Ended { out, err, .. } = fixture.run(6, &["lock", "import", "list", "--allow-private", "--dry-run"]);
    has(&out, &["would add     vae/x", "would read    vae/y.bin", "nothing was written"]);
    has(&err, &["list:3"]);
    assert_eq!(names(&fixture), before.0);
    assert!(body_bytes(&fixture) - before.1 < 5000, "only heads and the first bytes");

    fixture.run(0, &["lock", "add", hub, &url]);
    // The list above it has ages.
    let sum = || cached(&fixture).lines().last().unwrap().to_owned();
    let (lock, cache) = (fixture.lock(), sum());
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(2, 400_000))]);
    let before = body_bytes(&fixture);
    let mut update = fixture.command(&["lock", "update", "x", "y"]);
    let Ended { out, .. } = run(update.env("PROVISION_DRY_RUN", "1")).exits(0);
    has(
        &out,
        &[
            "would update  vae/x.safetensors  ",
            "300 kB → 400 kB",
            "would read    vae/y.bin  to be read: 1.5 MB",
        ],
    );
    has(
        &fixture.run(0, &["lock", "add", hub, "--dry-run"]).out,
        &["would update  vae/x.safetensors", "1 entry would be updated"],
    );
    assert!(body_bytes(&fixture) - before < 5000);
    assert_eq!((fixture.lock(), sum()), (lock, cache));
}

#[test]
fn an_import_says_what_it_wrote_and_how_large_the_lock_is() {
    let (fixture, url, _) = fixture();
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(1, 300_000))]);
    let import = |text: &str| {
        std::fs::write(fixture.path("list"), text).unwrap();
        let out = fixture.run(0, &["lock", "import", "list", "--lock", "l.lock", "--allow-private"]).out;
        out.lines().last().unwrap().to_owned()
    };
    let hub = "hf:o/r@main/vae/x.safetensors";
    assert_eq!(import(&format!("{hub}\n")), "l.lock: 1 entry added, 300 kB");
    assert_eq!(
        import(&format!("{hub}\n{url}\n")),
        "l.lock: 1 entry added, 1.5 MB; 1 entry unchanged; 2 entries in all, 1.8 MB"
    );
}

#[test]
fn what_only_a_read_could_confirm_is_refused_before_it() {
    let (fixture, url, _) = fixture();
    fixture.site.put("/other", Content::generated(5, 1_500_000));
    let other = fixture.site.url("/other");
    // Two files of one path, and no digest that shows which is which.
    let before = body_bytes(&fixture);
    let Ended { out, err, .. } =
        fixture.run(2, &["lock", "add", &url, &format!("{url}?v=2"), "--path", "vae"]);
    has(&out, &["added      vae/y.bin"]);
    has(&err, &["vae/y.bin is listed twice, from ", "--mirror"]);
    assert!(body_bytes(&fixture) - before < 1_600_000, "one of them was read");
    // The lock's entry is another file of this address.
    fixture.run(0, &["lock", "add", &format!("{other}?id=1"), "--path", "vae/"]);
    let before = body_bytes(&fixture);
    let err = fixture.run(2, &["lock", "add", &format!("{other}?id=2"), "--path", "vae/"]).err;
    has(&err, &["vae/other: the lock has another file of this address there"]);
    assert!(body_bytes(&fixture) - before < 10);
    // A lock that cannot be written.
    std::os::unix::fs::symlink("nowhere", fixture.path("dangling.lock")).unwrap();
    let before = body_bytes(&fixture);
    fixture.run(7, &["lock", "add", &url, "--lock", "dangling.lock"]);
    fixture.run(2, &["lock", "add", &url, "--lock", "no/such/models.lock"]);
    assert!(body_bytes(&fixture) - before < 10);
}
