//! Opening directories below another one so that no symlink can lead out.
//!
//! Where the kernel has it, one `openat2` walks the whole path and refuses every symlink, magic link and `..` on it
//! itself, so nothing can be swapped between two steps (`RESOLVE_BENEATH`, Linux 5.6). Elsewhere, and where a seccomp
//! filter forbids the call, each name is opened from the handle of the one before it with `O_NOFOLLOW`: what is
//! swapped then is either not yet looked at, and refused, or already open, and no longer asked for by name.
//!
//! Files need neither: they are opened by a single name, with `O_NOFOLLOW`, from the handle of their directory.
//!
//! Both ways say the same of the same trees, and the tests hold them to it. Which way it is can be given, for them;
//! the program takes the kernel's until that has once said that it has none.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

/// Who walks a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolveMode {
    /// The kernel, where it can.
    Openat2,
    /// We do, name by name.
    PerComponent,
}

/// How often the kernel is asked again that could not tell whether a rename was used to lead it out (EAGAIN).
const TRIES: usize = 4;

/// The kernel has said that it cannot: it is not asked again in this process.
static CANNOT: AtomicBool = AtomicBool::new(false);

/// Opens the directory at `path`, names joined by `/`, below `from`.
///
/// # Errors
/// `NOENT` where a name is missing, `NOTDIR` or `LOOP` where one is no directory or a symlink, `XDEV` where the path
/// would lead out.
pub(super) fn open_directory(mode: ResolveMode, from: &File, path: &str) -> Result<File, Errno> {
    if mode == ResolveMode::Openat2
        && !CANNOT.load(Ordering::Relaxed)
        && let Some(opened) = try_openat2(&CANNOT, || openat2(from, path))
    {
        return opened;
    }
    per_component(from, path)
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn openat2(from: &File, path: &str) -> Result<File, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry_on_intr(|| rustix::fs::openat2(from, path, FLAGS, Mode::empty(), within)).map(File::from)
}

/// What the kernel says; `None` where it cannot be relied on to say it.
fn try_openat2(cannot: &AtomicBool, ask: impl Fn() -> Result<File, Errno>) -> Option<Result<File, Errno>> {
    for _ in 0..TRIES {
        match ask() {
            Err(Errno::AGAIN) => {}
            // An older kernel, a filter around the container, a structure that it does not know.
            Err(Errno::NOSYS | Errno::PERM | Errno::TOOBIG) => {
                cannot.store(true, Ordering::Relaxed);
                return None;
            }
            result => return Some(result),
        }
    }
    None
}

fn per_component(from: &File, path: &str) -> Result<File, Errno> {
    let mut names = path.split('/');
    let first = names.next().unwrap_or_default();
    names.try_fold(open_component(from, first)?, |at, name| open_component(&at, name))
}

/// Opens the directory called `name`, which is one component, in `from`.
fn open_component(from: &File, name: &str) -> Result<File, Errno> {
    match name {
        // An absolute path begins with an empty name.
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
    fn a_directory_is_opened_however_deep() {
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
    fn fault_74_no_symlink_on_the_way_is_followed_wherever_it_leads() {
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
    fn fault_56_a_path_that_climbs_is_refused() {
        let tree = Tree::new();
        for mode in MODES {
            for path in ["..", "../outside", "a/../../outside", "/etc", "/"] {
                assert_eq!(tree.open(mode, path), Err(Errno::XDEV), "{mode:?} {path}");
            }
        }
    }

    #[test]
    fn fault_74_a_directory_that_is_swapped_for_a_symlink_all_the_time_never_leads_out() {
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
    fn a_kernel_that_cannot_is_not_asked_again_and_one_that_cannot_tell_is() {
        let tree = Tree::new();
        for no in [Errno::NOSYS, Errno::PERM, Errno::TOOBIG] {
            let cannot = AtomicBool::new(false);
            assert!(try_openat2(&cannot, || Err(no)).is_none());
            assert!(cannot.load(Ordering::Relaxed), "{no}");
        }
        let (cannot, asked) = (AtomicBool::new(false), std::cell::Cell::new(0));
        let busy_until = |free: usize| {
            asked.set(asked.get() + 1);
            if asked.get() < free { Err(Errno::AGAIN) } else { Ok(tree.handle.try_clone().unwrap()) }
        };
        assert!(matches!(try_openat2(&cannot, || busy_until(3)), Some(Ok(_))));
        asked.set(0);
        assert!(try_openat2(&cannot, || busy_until(100)).is_none(), "the names decide then");
        assert_eq!(asked.get(), TRIES);
        assert!(!cannot.load(Ordering::Relaxed), "it is asked again the next time");
        assert!(matches!(try_openat2(&cannot, || Err(Errno::LOOP)), Some(Err(Errno::LOOP))));
    }
}
