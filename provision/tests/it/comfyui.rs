//! `--comfyui`: files lie where `ComfyUI` finds them, by its own folders and its `extra_model_paths.yaml`.

use std::fs::{self, FileTimes};

use crate::lock_commands;
use crate::prelude::*;
use crate::program::assert_take_turns;

const SIZE: u64 = 400_000;
const YAML: &str = "extra_model_paths.yaml";

/// A fixture whose directory is `ComfyUI`'s, with `checkpoints/sub/x` in its lock.
fn fixture() -> (Fixture, Content) {
    let (fixture, content) = Fixture::of("checkpoints/sub/x", Content::generated(1, SIZE));
    fs::write(fixture.beside("main.py"), "").unwrap();
    fs::create_dir(fixture.destination()).unwrap();
    (fixture, content)
}

fn yaml(fixture: &Fixture, text: &str) {
    fs::write(fixture.beside(YAML), text).unwrap();
}

fn command(fixture: &Fixture, name: &str, more: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg(name).arg("--lock").arg(fixture.write_lock()).arg("--comfyui").arg(fixture.beside(""));
    command.args(more);
    command
}

fn verb(fixture: &Fixture, name: &str, more: &[&str]) -> Ended {
    run(&mut command(fixture, name, more))
}

fn succeeds(fixture: &Fixture, name: &str, more: &[&str]) -> Ended {
    verb(fixture, name, more).exits(0)
}

fn write(path: impl AsRef<Path>, content: &Content) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content.to_vec()).unwrap();
}

/// The files below a directory beside the destination, without markers and locks.
fn files(fixture: &Fixture, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![fixture.beside(directory)];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if ![".models-installed", ".provision.lock"].iter().any(|own| path.ends_with(own)) {
                found
                    .push(path.strip_prefix(fixture.beside(directory)).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_file_in_another_directory_of_its_folder_is_present() {
    let (fixture, content) = fixture();
    yaml(&fixture, "a111:\n  base_path: $VOLUME/store\n  checkpoints: |\n    none\n    Stable-diffusion/\n");
    let at = fixture.beside("volume/store/Stable-diffusion/sub/x");
    write(&at, &content);
    let volume = fixture.beside("volume");
    let with = |name: &str, more: &[&str]| run(command(&fixture, name, more).env("VOLUME", &volume)).exits(0);
    with("fetch", &["--offline"]);
    with("ensure", &["--offline"]);
    with("verify", &[]);
    let status = with("status", &[]);
    let place = at.parent().unwrap().canonicalize().unwrap();
    status.out_has(&[&format!(", in {}", place.display())]);
    assert_eq!(files(&fixture, "models"), [""; 0]);
    assert_eq!(files(&fixture, "volume"), ["store/Stable-diffusion/sub/x"]);
    // Without the file of paths it is not there, and the marker does not vouch for it.
    verb(&fixture, "status", &[]).exits(9);
    // What `verify` finds wrong there is mended there.
    fs::write(&at, content.flipped(7, 1).to_vec()).unwrap();
    run(command(&fixture, "verify", &[]).env("VOLUME", &volume)).exits(5);
    with("ensure", &[]);
    assert_eq!(fs::read(&at).unwrap(), content.to_vec());
}

#[test]
fn new_files_go_to_the_default_of_the_file() {
    for (text, place) in [
        ("a:\n  base_path: store\n  checkpoints: one\n", "models/checkpoints"),
        ("a:\n  base_path: store\n  is_default: true\n  checkpoints: |\n    one\n    two\n", "store/two"),
        (
            "a:\n  is_default: yes\n  checkpoints: one\nb:\n  checkpoints: two\n  is_default: \"false\"\n",
            "two",
        ),
        ("a:\n  is_default: true\n  checkpoints: models/other\n", "models/other"),
        ("a:\n  checkpoints: ~/home\n  is_default: 1\n  base_path: ~\n", "refused"),
        ("a:\n  checkpoints: home\n  is_default: 1\n  base_path: \"~/h\"\n", "models/h/home"),
    ] {
        let (fixture, content) = fixture();
        yaml(&fixture, text);
        if place == "refused" {
            verb(&fixture, "fetch", &[]).exits(2);
            continue;
        }
        succeeds(&fixture, "fetch", &[]);
        assert_eq!(fs::read(fixture.beside(place).join("sub/x")).unwrap(), content.to_vec(), "{text}");
        let all = [files(&fixture, "models"), files(&fixture, "store"), files(&fixture, "two")].concat();
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        for (name, more) in [("fetch", &["--offline"][..]), ("verify", &[]), ("status", &[])] {
            succeeds(&fixture, name, more);
        }
    }
}

#[test]
fn a_folder_that_comfyui_does_not_know_lies_where_the_file_says() {
    let fixture = Fixture::with(&[("ipadapter/x", 1, 1000)]);
    yaml(&fixture, "a:\n  ipadapter: store/\n");
    succeeds(&fixture, "fetch", &[]);
    assert_eq!(files(&fixture, "store"), ["x"]);
}

#[test]
fn the_file_that_comfyui_would_load_is_the_one_that_counts() {
    let (fixture, content) = fixture();
    yaml(&fixture, "a:\n  base_path: store\n  is_default: true\n  checkpoints: first\n");
    // The right bytes lie in a directory that comes later.
    write(fixture.path("checkpoints/sub/x"), &content);
    write(fixture.beside("store/first/sub/x"), &content.flipped(7, 1));
    verb(&fixture, "verify", &[]).exits(5);
    succeeds(&fixture, "fetch", &[]);
    assert_eq!(fs::read(fixture.beside("store/first/sub/x")).unwrap(), content.to_vec());
    succeeds(&fixture, "verify", &[]);
}

#[test]
fn a_marker_does_not_vouch_for_another_directorys_file() {
    let (fixture, content) = fixture();
    succeeds(&fixture, "fetch", &[]);
    // Size and time are those of the file that the marker knows, as `cp -p` makes them.
    let installed = fixture.path("checkpoints/sub/x");
    let time = fs::metadata(&installed).unwrap().modified().unwrap();
    let other = fixture.beside("store/sub/x");
    write(&other, &content.flipped(7, 1));
    fs::File::options()
        .write(true)
        .open(&other)
        .unwrap()
        .set_times(FileTimes::new().set_modified(time))
        .unwrap();
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    verb(&fixture, "status", &[]).exits(9);
    succeeds(&fixture, "ensure", &[]);
    assert_eq!(fs::read(&other).unwrap(), content.to_vec());
    // And back: the first file is hashed again, not fetched.
    fs::remove_file(fixture.beside(YAML)).unwrap();
    verb(&fixture, "status", &[]).exits(9);
    succeeds(&fixture, "ensure", &["--offline"]);
    succeeds(&fixture, "status", &[]);
}

#[test]
fn older_names_of_folders_are_searched() {
    let mut fixture = Fixture::new();
    for (at, name) in [(1, "diffusion_models/d"), (2, "clip/t"), (3, "controlnet/c")] {
        fixture.file(name, &Content::generated(at, 1000));
    }
    for (at, name) in [(1, "unet/d"), (2, "text_encoders/t"), (3, "t2i_adapter/c")] {
        write(fixture.path(name), &Content::generated(at, 1000));
    }
    succeeds(&fixture, "fetch", &["--offline"]);
    succeeds(&fixture, "status", &[]).out_has(&["diffusion_models/d", "models/unet"]);
    // Both names, one model.
    fixture.file("unet/d", &Content::generated(4, 1000));
    verb(&fixture, "fetch", &[]).exits(7).err_has(&["unet/d and diffusion_models/d are one model"]);
}

#[test]
fn two_folders_in_one_directory_have_one_file_of_a_name() {
    let (mut fixture, content) = fixture();
    fixture.file("loras/sub/x", &content);
    yaml(&fixture, "a:\n  base_path: all\n  checkpoints: .\n  loras: .\n");
    write(fixture.beside("all/sub/x"), &content);
    verb(&fixture, "fetch", &[]).exits(7).err_has(&["loras/sub/x and checkpoints/sub/x are one model"]);
}

#[test]
fn a_model_that_is_a_directory_stays_together() {
    let mut fixture = Fixture::new();
    let (first, second) = (Content::generated(1, 1000), Content::generated(2, 1000));
    fixture.file("diffusers/m/unet/x", &first).file("diffusers/m/vae/y", &second);
    yaml(&fixture, "a:\n  is_default: true\n  diffusers: one\nb:\n  diffusers: two\n");
    write(fixture.beside("two/m/unet/x"), &first);
    fs::create_dir(fixture.destination()).unwrap();
    succeeds(&fixture, "fetch", &[]);
    assert_eq!(files(&fixture, "two"), ["m/unet/x", "m/vae/y"]);
}

#[test]
fn a_wrong_directory_or_file_of_paths_is_named() {
    let (fixture, _) = fixture();
    let fails = |code: i32, more: &[&str], expected: &[&str]| {
        let ended = verb(&fixture, "fetch", more).exits(code);
        assert!(expected.iter().all(|expected| ended.err.contains(expected)), "{expected:?}: {}", ended.err);
    };
    yaml(&fixture, "a:\n  base_path: x\n loras: y\n");
    fails(2, &[], &[YAML, "line 3, column"]);
    yaml(&fixture, "a:\n  base_path: x\n  loras:\n    - y\n");
    fails(2, &[], &[YAML, "line 4, column 5: section `a`: `loras` is a list"]);
    yaml(&fixture, "a:\n  loras: /\n");
    fails(2, &[], &[YAML, "section a, key loras: models cannot lie in the root directory"]);
    fs::write(fixture.beside(YAML), b"a:\n  loras: \xff\n").unwrap();
    fails(2, &[], &[YAML, "line 2: it is not UTF-8"]);
    fs::write(fixture.beside(YAML), vec![b' '; 2 << 20]).unwrap();
    fails(2, &[], &["is longer than 1048576 bytes"]);
    fs::remove_file(fixture.beside(YAML)).unwrap();
    fs::create_dir(fixture.beside(YAML)).unwrap();
    fails(2, &[], &["is not a file"]);
    fs::remove_dir(fixture.beside(YAML)).unwrap();
    fails(2, &["--dest", "/elsewhere"], &["--dest /elsewhere (or PROVISION_DEST) is not"]);
    fails(2, &["--layers", "layers"], &["--layers moves files out of the destination"]);
    // A directory that is a file fails its models, with its section.
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    fs::write(fixture.beside("store"), "").unwrap();
    fails(7, &[], &["store is a file, not a directory", "is from", "section a, key checkpoints"]);
    assert_eq!(fs::read(fixture.beside("store")).unwrap(), b"");
    let mut other = program(&fixture);
    fs::create_dir(fixture.beside("empty")).unwrap();
    other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--comfyui").arg(fixture.beside("empty"));
    run(&mut other).exits(2).err_has(&["has no models, no main.py and no extra_model_paths.yaml"]);
    // The same directory by both options is no contradiction.
    fs::remove_file(fixture.beside("store")).unwrap();
    succeeds(&fixture, "fetch", &["--dest", fixture.destination().as_str()]);
}

#[test]
fn a_base_that_does_not_exist_is_said_before_it_is_created() {
    let (fixture, _) = fixture();
    let text = "a:\n  base_path: unmounted\n  is_default: true\n  checkpoints: one\n  vae: two\nb:\n  base_path: gone\n  loras: x\n";
    yaml(&fixture, text);
    for name in ["status", "verify"] {
        assert_ne!(verb(&fixture, name, &[]).code, Some(0));
    }
    assert!(!fixture.beside("unmounted").exists());
    let dry = succeeds(&fixture, "fetch", &["--dry-run"]);
    assert!(!fixture.beside("unmounted").exists(), "{}", dry.err);
    let ended = succeeds(&fixture, "fetch", &[]);
    let said: Vec<_> = ended.err.lines().filter(|line| line.contains("does not exist")).collect();
    assert_eq!(said.len(), 1, "{}", ended.err);
    assert!(said[0].contains("section a: base_path") && said[0].contains("unmounted"), "{}", said[0]);
    assert_eq!(files(&fixture, "unmounted"), ["one/sub/x"]);
    assert!(!succeeds(&fixture, "ensure", &[]).err.contains("does not exist"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_its_section() {
    let Some((mut fixture, content)) = with_nobody(fixture()) else { return };
    fixture.file("vae/y", &Content::generated(2, 1000));
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    write(fixture.beside("store/sub/x"), &content);
    chmod(fixture.destination(), 0o777);
    let fetch = || run(&mut as_nobody(&fixture, &command(&fixture, "fetch", &[])));
    // What is there is complete, whoever may write to it.
    fetch().exits(0);
    fs::write(fixture.beside("store/sub/x"), content.flipped(7, 1).to_vec()).unwrap();
    fetch().exits(7).err_has(&["store/sub", "section a, key checkpoints"]);
}

#[test]
fn the_space_is_that_of_each_folders_volume() {
    let Some((fixture, _)) = with_mount(fixture()) else { return };
    yaml(&fixture, "a:\n  base_path: small\n  is_default: true\n  checkpoints: one\n");
    fs::create_dir(fixture.beside("small")).unwrap();
    let small = fixture.beside("small");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=100k", "tmpfs"]).arg(&small)).exits(0);
    let dry = verb(&fixture, "fetch", &["--dry-run"]);
    let full = verb(&fixture, "fetch", &[]);
    run(Command::new("umount").arg(&small));
    assert_eq!(full.code, Some(7), "{}", full.err);
    full.err_has(&["small/one: ", "are needed"]);
    assert_eq!(fixture.sent(), 0);
    assert_eq!(dry.code, Some(0), "{}{}", dry.out, dry.err);
}

#[test]
fn reuse_links_into_a_folder_on_the_stores_volume() {
    let Some((fixture, content)) = with_mount(fixture()) else { return };
    yaml(&fixture, "a:\n  base_path: volume\n  is_default: true\n  checkpoints: one\n");
    let volume = fixture.beside("volume");
    fs::create_dir(&volume).unwrap();
    // A copy would not fit.
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=600k", "tmpfs"]).arg(&volume)).exits(0);
    write(volume.join("store/any"), &content);
    let store = volume.join("store").into_os_string().into_string().unwrap();
    let reuse = ["--reuse", &store, "--reuse-mode", "link", "--offline"];
    let dry = verb(&fixture, "fetch", &[&reuse[..], &["--dry-run"]].concat());
    let done = verb(&fixture, "fetch", &[&reuse[..], &["--warm"]].concat());
    let read = fs::read(volume.join("one/sub/x"));
    run(Command::new("umount").arg(&volume));
    dry.out_has(&["link     checkpoints/sub/x"]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    done.err_has(&["warm: 1 file"]);
    assert_eq!(read.unwrap(), content.to_vec());
}

#[test]
fn a_folder_that_is_a_store_offers_no_file_to_itself() {
    let (fixture, content) = fixture();
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    write(fixture.beside("store/sub/x"), &content.flipped(7, 1));
    let store = fixture.beside("store").into_os_string().into_string().unwrap();
    succeeds(&fixture, "fetch", &["--reuse", &store]).err_lacks(&["is not used"]);
}

#[test]
fn a_killed_run_is_resumed_in_its_folder_and_its_part_cleaned() {
    let (fixture, content) = Fixture::of("checkpoints/sub/x", Content::generated(1, 4_000_000));
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    let part = |fixture: &Fixture| files(fixture, "store").iter().any(|name| name.contains(".part"));
    fixture.origin.shape(Shape::rate(8_000_000));
    let run = start(&mut command(&fixture, "fetch", &["--connections", "1"]));
    fixture.wait_for_bytes(3_000_000);
    signal(&run, Signal::KILL);
    run.end();
    assert!(part(&fixture) && files(&fixture, "models").is_empty());
    succeeds(&fixture, "clean", &["--dry-run"]).out_has(&["store/sub/.x.", "would resume it"]);
    succeeds(&fixture, "fetch", &[]);
    assert_eq!(files(&fixture, "store"), ["sub/x"]);
    assert_eq!(fs::read(fixture.beside("store/sub/x")).unwrap(), content.to_vec());
    // One that no lock needs is removed, and another program's files stay.
    write(fixture.beside("store/sub/.z.01234567.part"), &content);
    write(fixture.beside("store/sub/mine"), &content);
    succeeds(&fixture, "clean", &["--yes"]);
    assert_eq!(files(&fixture, "store"), ["sub/mine", "sub/x"]);
}

#[test]
fn clean_leaves_what_lies_in_folders_elsewhere() {
    let (mut fixture, _) = fixture();
    fixture.file("vae/y", &Content::generated(2, 1000));
    yaml(&fixture, "a:\n  is_default: true\n  checkpoints: store\n");
    // Another installation has fetched the file that both list, with the time of every installed file.
    fs::create_dir_all(fixture.beside("second/models")).unwrap();
    fs::write(fixture.beside("second").join(YAML), "a:\n  checkpoints: ../store\n  is_default: 1\n").unwrap();
    let lock = fixture.write_lock();
    let mut second = program(&fixture);
    run_ok(second.arg("fetch").arg("--lock").arg(&lock).arg("--comfyui").arg(fixture.beside("second")));
    succeeds(&fixture, "fetch", &[]);
    // The lock of the first one drops both files.
    let rest = Fixture::with(&[("loras/z", 3, 1000)]);
    fs::write(&lock, rest.lock_text()).unwrap();
    for more in [&["--unlisted", "--yes"][..], &["--unlisted", "--gone", ".models-installed", "--yes"]] {
        let mut clean = program(&fixture);
        clean.arg("clean").arg("--lock").arg(&lock).arg("--comfyui").arg(fixture.beside("")).args(more);
        let cleaned = run_ok(&mut clean);
        let named = format!("{} was installed earlier", fixture.beside("store/sub/x").display());
        assert!(more.len() > 2 || cleaned.err.contains(&named), "{}{}", cleaned.out, cleaned.err);
        assert_eq!((files(&fixture, "store"), files(&fixture, "models")), (vec!["sub/x".into()], vec![]));
    }
    let mut status = program(&fixture);
    status.arg("status").arg("--lock").arg(fixture.write_lock()).arg("--comfyui");
    run_ok(status.arg(fixture.beside("second")));
}

fn run_ok(command: &mut Command) -> Ended {
    run(command).exits(0)
}

#[test]
fn installations_that_share_a_folder_take_turns() {
    let (fixture, content) = fixture();
    fixture.origin.shape(Shape::rate(400_000));
    let store: PathBuf = fixture.beside("store");
    let text = format!("a:\n  base_path: {}\n  is_default: true\n  checkpoints: one\n", store.display());
    yaml(&fixture, &text);
    let second = fixture.beside("second");
    fs::create_dir_all(second.join("models")).unwrap();
    // For the other one it is a directory that comes last, and is empty when the run begins to wait.
    fs::write(second.join(YAML), text.replace("  is_default: true\n", "")).unwrap();
    let mut first = command(&fixture, "fetch", &["--connections", "1"]);
    let mut other = program(&fixture);
    other.arg("fetch").arg("--lock").arg(fixture.write_lock()).arg("--comfyui").arg(&second);
    assert_take_turns(&fixture, ("/checkpoints/sub/x", SIZE), &mut first, &mut other);
    assert_eq!(fs::read(store.join("one/sub/x")).unwrap(), content.to_vec());
    assert_eq!(
        (files(&fixture, "store"), files(&fixture, "second/models")),
        (vec!["one/sub/x".into()], vec![])
    );
}

#[test]
fn a_read_without_a_digest_lies_where_the_fetch_looks() {
    let fixture = lock_commands::Fixture::new();
    let content = Content::generated(3, 1_500_000);
    fixture.site.put("/vae/y.bin", content.clone());
    let url = fixture.site.url("/vae/y.bin");
    let text = "a:\n  base_path: ../store\n  is_default: true\n  vae: one\n";
    fs::create_dir_all(fixture.path("ComfyUI/models")).unwrap();
    fs::write(fixture.path("ComfyUI").join(YAML), text).unwrap();
    let command = |args: &[&str]| {
        let mut command = fixture.command(args);
        command.env_remove("PROVISION_DEST").env("PROVISION_COMFYUI", "ComfyUI");
        run_ok(&mut command)
    };
    command(&["lock", "add", &url, "--cache-size", "0"]);
    let kept = fs::read_dir(fixture.path("store/one")).unwrap().count();
    assert!(kept > 0, "the part waits for the fetch");
    let before = fixture.site.counters().body_bytes_sent;
    command(&["fetch"]);
    assert_eq!(fixture.site.counters().body_bytes_sent, before);
    assert_eq!(fs::read(fixture.path("store/one/y.bin")).unwrap(), content.to_vec());
}
