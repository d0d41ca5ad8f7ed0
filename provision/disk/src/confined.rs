//! Confined opens: directories below another one, so that no symlink can lead out.
//!
//! There are two modes, and the tests compare them:
//! - [`ResolveMode::Openat2`]: one call resolves the whole path and refuses each symlink, magic link and `..`
//!   (`RESOLVE_BENEATH`, Linux 5.6). Nothing can be replaced between two steps.
//! - [`ResolveMode::PerComponent`]: each component is opened with `O_NOFOLLOW` from the handle of the one before. A
//!   component that is replaced meanwhile is either not opened yet, and refused, or open already, and no longer looked
//!   up by name.
//!
//! The program uses `openat2` until the kernel reports that it is missing, or a seccomp filter refuses it.
//!
//! Files need neither: they are opened by a single name with `O_NOFOLLOW`, from the handle of their directory.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

/// The way in which a path is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolveMode {
    /// By one `openat2` call, if the system allows it.
    Openat2,
    /// One component at a time.
    PerComponent,
}

/// The number of attempts with `openat2` while it fails with EAGAIN: a rename during the call kept the kernel from
/// checking the path.
const TRIES: usize = 4;

/// Set once `openat2` is known to be unavailable to this process.
static UNAVAILABLE: AtomicBool = AtomicBool::new(false);

/// Opens the directory at `path`, components joined by `/`, below `from`.
///
/// # Errors
/// `NOENT` if a component is missing, `NOTDIR` or `LOOP` if one is no directory or a symlink, `XDEV` if the path would
/// lead out.
pub(crate) fn open_directory(mode: ResolveMode, from: &File, path: &str) -> Result<File, Errno> {
    if mode == ResolveMode::Openat2
        && !UNAVAILABLE.load(Ordering::Relaxed)
        && let Some(opened) = try_openat2(&UNAVAILABLE, || openat2(from, path))
    {
        return opened;
    }
    open_per_component(from, path)
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn openat2(from: &File, path: &str) -> Result<File, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry_on_intr(|| rustix::fs::openat2(from, path, FLAGS, Mode::empty(), within)).map(File::from)
}

/// The result of `openat2`. `None` if the call is unavailable, or keeps failing with EAGAIN.
fn try_openat2(
    unavailable: &AtomicBool,
    openat2: impl Fn() -> Result<File, Errno>,
) -> Option<Result<File, Errno>> {
    for _ in 0..TRIES {
        match openat2() {
            Err(Errno::AGAIN) => {}
            // An older kernel, a seccomp filter, an unknown structure.
            Err(Errno::NOSYS | Errno::PERM | Errno::TOOBIG) => {
                unavailable.store(true, Ordering::Relaxed);
                return None;
            }
            result => return Some(result),
        }
    }
    None
}

fn open_per_component(from: &File, path: &str) -> Result<File, Errno> {
    let mut components = path.split('/');
    let first = components.next().unwrap_or_default();
    components.try_fold(open_component(from, first)?, |at, name| open_component(&at, name))
}

/// Opens the directory `name`, a single component, in `from`.
fn open_component(from: &File, name: &str) -> Result<File, Errno> {
    match name {
        // An absolute path begins with an empty component.
        "" | ".." => Err(Errno::XDEV),
        name => retry_on_intr(|| rustix::fs::openat(from, name, FLAGS, Mode::empty())).map(File::from),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    const MODES: [ResolveMode; 2] = [ResolveMode::Openat2, ResolveMode::PerComponent];

    struct Tree {
        root: tempfile::TempDir,
        handle: File,
    }

    impl Tree {
        /// `a/b/c`, a file `a/file`, and beside the root a directory `outside`.
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("root/a/b/c")).unwrap();
            fs::create_dir_all(root.path().join("outside/c")).unwrap();
            fs::write(root.path().join("root/a/file"), b"x").unwrap();
            let handle = File::open(root.path().join("root")).unwrap();
            Self { root, handle }
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.root.path().join(path)
        }

        fn open(&self, mode: ResolveMode, path: &str) -> Result<u64, Errno> {
            open_directory(mode, &self.handle, path).map(|file| file.metadata().unwrap().ino())
        }
    }

    #[test]
    fn a_nested_directory_is_opened() {
        let tree = Tree::new();
        let inode = fs::metadata(tree.at("root/a/b/c")).unwrap().ino();
        for mode in MODES {
            assert_eq!(tree.open(mode, "a/b/c"), Ok(inode), "{mode:?}");
            assert_eq!(tree.open(mode, "a/b/none"), Err(Errno::NOENT), "{mode:?}");
            assert_eq!(tree.open(mode, "a/none/c"), Err(Errno::NOENT), "{mode:?}");
            assert_eq!(tree.open(mode, "a/file"), Err(Errno::NOTDIR), "{mode:?}");
            assert_eq!(tree.open(mode, "a/file/c"), Err(Errno::NOTDIR), "{mode:?}");
        }
    }

    #[test]
    fn fault_74_no_symlink_in_a_path_is_followed() {
        let tree = Tree::new();
        for (name, target) in [
            ("out", "../outside"),
            ("absolute", tree.at("outside").to_str().unwrap()),
            ("within", "a/b"),
            ("magic", "/proc/self/cwd"),
            ("root", "/proc/self/root"),
        ] {
            symlink(target, tree.at("root").join(name)).unwrap();
            for mode in MODES {
                for path in [name.to_owned(), format!("{name}/c")] {
                    let opened = tree.open(mode, &path);
                    let refused = matches!(opened, Err(Errno::LOOP | Errno::NOTDIR));
                    assert!(refused, "{mode:?} {path}: {opened:?}");
                }
            }
        }
    }

    #[test]
    fn fault_56_a_path_with_dot_dot_or_a_leading_slash_is_refused() {
        let tree = Tree::new();
        for mode in MODES {
            for path in ["..", "../outside", "a/../../outside", "/etc", "/"] {
                assert_eq!(tree.open(mode, path), Err(Errno::XDEV), "{mode:?} {path}");
            }
        }
    }

    #[test]
    fn fault_74_a_directory_swapped_for_a_symlink_never_leads_out() {
        let tree = Tree::new();
        let (inside, outside) = (tree.at("root/a/b"), tree.at("outside"));
        let own = fs::metadata(inside.join("c")).unwrap().ino();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let kept = tree.at("root/a/kept");
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&inside, &kept).unwrap();
                    symlink(&outside, &inside).unwrap();
                    fs::remove_file(&inside).unwrap();
                    fs::rename(&kept, &inside).unwrap();
                }
            });
            let leads_out =
                |mode| (0..3000).any(|_| tree.open(mode, "a/b/c").is_ok_and(|inode| inode != own));
            let led_out = MODES.map(leads_out);
            done.store(true, Ordering::Relaxed);
            assert_eq!(led_out, [false; 2]);
        });
    }

    #[test]
    fn openat2_is_given_up_if_missing_and_retried_if_busy() {
        let tree = Tree::new();
        for no in [Errno::NOSYS, Errno::PERM, Errno::TOOBIG] {
            let unavailable = AtomicBool::new(false);
            assert!(try_openat2(&unavailable, || Err(no)).is_none());
            assert!(unavailable.load(Ordering::Relaxed), "{no}");
        }
        let (unavailable, asked) = (AtomicBool::new(false), std::cell::Cell::new(0));
        let busy_until = |free: usize| {
            asked.set(asked.get() + 1);
            if asked.get() < free { Err(Errno::AGAIN) } else { Ok(tree.handle.try_clone().unwrap()) }
        };
        assert!(matches!(try_openat2(&unavailable, || busy_until(3)), Some(Ok(_))));
        asked.set(0);
        assert!(try_openat2(&unavailable, || busy_until(100)).is_none(), "resolves per component then");
        assert_eq!(asked.get(), TRIES);
        assert!(!unavailable.load(Ordering::Relaxed), "the next path tries it again");
        assert!(matches!(try_openat2(&unavailable, || Err(Errno::LOOP)), Some(Err(Errno::LOOP))));
    }
}
