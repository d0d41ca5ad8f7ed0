//! Files with a piece list are verified by their pieces: which bytes are wrong, and by what a file is verified.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::event::{Observer, Silent};
use provision_core::lockfile::{Lockfile, Model};
use provision_core::piece_list::Piece;
use provision_engine::inspect::{self, FileState};
use provision_engine::piece_lists::make::make;

use crate::lock_commands::has;
use crate::prelude::*;

/// A directory with files, and the models and lists that they should have.
struct Files {
    directory: tempfile::TempDir,
    lock: String,
    lists: BTreeMap<Sha256, Arc<PieceList>>,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { directory, lock: "version = 1\n".to_owned(), lists: BTreeMap::new() }
    }

    /// Writes a file and adds its model, with the list.
    fn add(&mut self, name: &str, bytes: &[u8], list: Option<PieceList>) {
        fs::write(self.directory.path().join(name), bytes).unwrap();
        let (size, sha256) = (bytes.len(), Sha256::of(bytes));
        let _ = write!(
            self.lock,
            "\n[[model]]\npath = {name:?}\nurl = \"https://h.example/{name}\"\nsize = {size}\nsha256 = \"{sha256}\"\n"
        );
        if let Some((list, digest)) = list.and_then(|list| Some((list.digest()?, list))).map(|(d, l)| (l, d))
        {
            let _ = writeln!(self.lock, "pieces = \"{digest}\"");
            self.lists.insert(digest, Arc::new(list));
        }
    }

    fn file(&self, name: &str) -> fs::File {
        OpenOptions::new().read(true).write(true).open(self.directory.path().join(name)).unwrap()
    }

    /// Inverts a bit of each byte at these places.
    fn flip(&self, name: &str, places: impl IntoIterator<Item = u64>) {
        for place in places {
            let mut byte = [0];
            self.file(name).read_exact_at(&mut byte, place).unwrap();
            self.file(name).write_all_at(&[byte[0] ^ 4], place).unwrap();
        }
    }

    /// The states, in the order of the models.
    fn states(&self, threads: usize, is_full: bool, observer: &dyn Observer) -> Vec<FileState> {
        let path = Utf8Path::from_path(self.directory.path()).unwrap();
        let destination = Destination::open(path).unwrap().unwrap();
        let lock = Lockfile::parse("models.lock", &self.lock).unwrap();
        let models: Vec<&Model> = lock.models().iter().collect();
        let list = |model: &Model| model.pieces.and_then(|digest| self.lists.get(&digest).cloned());
        inspect::hash(&destination, &models, threads, &list, is_full, observer)
    }
}

/// The list of `bytes` that is cut at these places, and where pieces would be too long.
fn list_of(bytes: &[u8], cuts: &[Index]) -> PieceList {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len()) + 1).collect();
    ends.extend((0..bytes.len()).step_by(MAX_PIECE as usize).skip(1));
    ends.push(bytes.len());
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    let piece = |end: usize| {
        let range = ByteRange::new(start as u64, end as u64);
        let sha256 = Sha256::of(&bytes[std::mem::replace(&mut start, end)..end]);
        Piece { range, sha256 }
    };
    let pieces = ends.into_iter().map(piece).collect();
    PieceList::new(bytes.len() as u64, Sha256::of(bytes), pieces).unwrap()
}

fn verified_by(state: &FileState) -> VerifiedBy {
    let FileState::Right(hash) = state else { panic!("{state:?}") };
    hash.verified_by
}

/// The ranges of the pieces that have one of these bytes, joined.
fn pieces_with(list: &PieceList, places: &[u64]) -> Vec<ByteRange> {
    let mut ranges = RangeSet::new();
    let touched = |piece: &&Piece| places.iter().any(|at| piece.range.start <= *at && *at < piece.range.end);
    list.pieces().iter().filter(touched).for_each(|piece| ranges.insert(piece.range));
    ranges.iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn wrong_ranges_are_the_pieces_with_a_wrong_byte(
        size in MAX_PIECE + 1..3 * MAX_PIECE,
        cuts in vec(any::<Index>(), 0..40),
        flips in vec(any::<Index>(), 0..6),
        small in 0..3_000_000_u64,
        is_small_wrong: bool,
        threads in 1..4_usize,
        is_full: bool,
    ) {
        let mut files = Files::new();
        let bytes = Content::generated(1, size).to_vec();
        let list = list_of(&bytes, &cuts);
        files.add("a", &bytes, Some(list.clone()));
        files.add("b", &Content::generated(2, small + 1).to_vec(), None);
        files.add("c", &bytes, Some(list_of(&bytes, &[])));
        let flips: std::collections::BTreeSet<u64> = flips.iter().map(|at| at.index(bytes.len()) as u64).collect();
        files.flip("a", flips.iter().copied());
        files.flip("b", is_small_wrong.then_some(small / 2));
        let states = files.states(threads, is_full, &Silent);
        let by_list = if is_full { VerifiedBy::Digest } else { VerifiedBy::Pieces };
        match &states[0] {
            FileState::WrongPieces { wrong, .. } => {
                prop_assert_eq!(wrong, &pieces_with(&list, &flips.into_iter().collect::<Vec<_>>()));
            }
            state => {
                prop_assert!(flips.is_empty());
                prop_assert_eq!(verified_by(state), by_list);
            }
        }
        prop_assert_eq!(matches!(states[1], FileState::WrongDigest { .. }), is_small_wrong);
        prop_assert!(is_small_wrong || verified_by(&states[1]) == VerifiedBy::Digest);
        prop_assert_eq!(verified_by(&states[2]), by_list);
    }
}

/// What a file is cut to, or grows to, after it was opened.
struct Resizes<'a>(&'a Files, u64);

impl Observer for Resizes<'_> {
    fn observe(&self, event: &Event) {
        assert!(matches!(event, Event::Checking { .. }));
        self.0.file("x").set_len(self.1).unwrap();
    }
}

#[test]
fn fault_176_a_file_that_changes_length_while_hashed_is_wrong() {
    let size = 3 * MAX_PIECE + 5;
    for length in [0, MAX_PIECE, size - 1, size + 1] {
        for is_full in [false, true] {
            let mut files = Files::new();
            let bytes = Content::generated(1, size).to_vec();
            files.add("x", &bytes, Some(list_of(&bytes, &[])));
            let states = files.states(2, is_full, &Resizes(&files, length));
            assert!(
                matches!(states[0], FileState::WrongSize { found } if found == length),
                "{length}: {:?}",
                states[0]
            );
        }
    }
}

/// The files that are being checked.
#[derive(Default)]
struct Announced(Mutex<Vec<String>>);

impl Observer for Announced {
    fn observe(&self, event: &Event) {
        let Event::Checking { path, .. } = event else { panic!("{event:?}") };
        self.0.lock().unwrap().push(path.to_string());
    }
}

#[test]
fn each_file_that_is_read_for_its_list_is_announced() {
    let mut files = Files::new();
    files.add("x", &Content::generated(1, MAX_PIECE + 1).to_vec(), None);
    files.add("y", b"1", None);
    fs::remove_file(files.directory.path().join("y")).unwrap();
    let announced = Announced::default();
    let lock = Lockfile::parse("models.lock", &files.lock).unwrap();
    let destination =
        Destination::open(Utf8Path::from_path(files.directory.path()).unwrap()).unwrap().unwrap();
    let (_, lists) = make(&destination, &lock.models().iter().collect::<Vec<_>>(), 2, &announced);
    assert_eq!(lists.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert_eq!(announced.0.into_inner().unwrap(), ["x"]);
}

#[test]
fn only_the_full_check_tells_a_wrong_list_from_wrong_bytes() {
    let size = 2 * MAX_PIECE + 5;
    let (bytes, other) = (Content::generated(1, size).to_vec(), Content::generated(2, size).to_vec());
    // A list that names the lock's file and has the pieces of another one: its author's mistake.
    let liar = PieceList::new(size, Sha256::of(&bytes), list_of(&other, &[]).pieces().to_vec()).unwrap();
    let mut files = Files::new();
    files.add("x", &bytes, Some(liar));
    let all = vec![ByteRange::new(0, size)];
    let states = files.states(2, false, &Silent);
    assert!(matches!(&states[0], FileState::WrongPieces { wrong, .. } if *wrong == all), "{states:?}");
    let states = files.states(2, true, &Silent);
    assert!(
        matches!(&states[0], FileState::WrongList { found, wrong } if *found == Sha256::of(&bytes) && *wrong == all),
        "{states:?}"
    );
    // The bytes that it lists.
    fs::write(files.directory.path().join("x"), &other).unwrap();
    assert_eq!(verified_by(&files.states(2, false, &Silent)[0]), VerifiedBy::Pieces);
    let states = files.states(2, true, &Silent);
    assert!(
        matches!(&states[0], FileState::WrongList { found, wrong } if *found == Sha256::of(&other) && wrong.is_empty()),
        "{states:?}"
    );
    assert!(!states[0].is_mended_by_fetch(), "a fetch brings what the list says");
}

/// A destination, a lock beside it with a list for `x`, and the program for them; the bytes of `x` and `y` are there.
fn with_lists_on_disk(list: PieceList) -> Files {
    let mut files = Files::new();
    files.add("x", &Content::generated(1, list.size()).to_vec(), Some(list));
    files.add("y", &Content::generated(2, 1_000).to_vec(), None);
    let place = files.directory.path();
    fs::create_dir(place.join("models.pieces")).unwrap();
    for (digest, list) in &files.lists {
        fs::write(place.join("models.pieces").join(digest.to_string()), list.write().unwrap()).unwrap();
    }
    fs::write(place.join("models.lock"), &files.lock).unwrap();
    files
}

/// Runs `verify`; asserts the exit code and returns standard output and standard error.
fn verify(files: &Files, code: i32, args: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.env_clear().current_dir(files.directory.path()).args(["verify", "--dest", "."]).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run(&mut command).exits(code)
}

#[test]
fn fault_174_verify_names_the_wrong_ranges_of_a_listed_file() {
    let size = 12 * MAX_PIECE + 5;
    let bytes = Content::generated(1, size).to_vec();
    let files = with_lists_on_disk(list_of(&bytes, &[]));
    let Ended { out, err, .. } = verify(&files, 0, &["--verbose"]);
    has(&out, &["ok       x (by its piece list)\n", "ok       y\n"]);
    has(&err, &["checking x, ", "checking y, ", "verified: 2 files, ", "; 1 of them by piece lists"]);
    verify(&files, 0, &["--full", "--verbose"]).out_has(&["ok       x\n"]);

    files.flip("x", [MAX_PIECE, 2 * MAX_PIECE - 1, size - 1]);
    let Ended { out, err, .. } = verify(&files, 5, &[]);
    let expected = "wrong    x: bytes 4194304 to 8388607, 50331648 to 50331652 are wrong\n";
    assert_eq!(out, expected);
    has(&err, &["1 of 2 files in . not as the lock says; the next fetch replaces what is wrong"]);
    let out = verify(&files, 5, &["--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let wrong = serde_json::json!([[MAX_PIECE, 2 * MAX_PIECE], [12 * MAX_PIECE, size]]);
    assert_eq!((&json["complete"], &json["files"][0]["wrong"]), (&false.into(), &wrong));
    assert_eq!(json["files"][1]["proven_by"], "digest");

    files.flip("x", (3..9).step_by(2).map(|piece| piece * MAX_PIECE));
    let out = verify(&files, 5, &[]).out;
    has(
        &out,
        &["bytes 4194304 to 8388607, 12582912 to 16777215, 20971520 to 25165823 and 2 more ranges are wrong"],
    );
}

#[test]
fn without_a_list_the_digest_decides_and_a_warning_tells() {
    let size = 2 * MAX_PIECE + 5;
    let files = with_lists_on_disk(list_of(&Content::generated(1, size).to_vec(), &[]));
    let list =
        files.directory.path().join("models.pieces").join(files.lists.keys().next().unwrap().to_string());
    let mut bytes = fs::read(&list).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&list, bytes).unwrap();
    for full in [&["--verbose"][..], &["--verbose", "--full"]] {
        let Ended { out, err, .. } = verify(&files, 0, full);
        has(&out, &["ok       x\n"]);
        has(&err, &["warning: x: used without a piece list: models.pieces/", "the lock says "]);
    }
    fs::remove_file(&list).unwrap();
    verify(&files, 0, &[]).err_has(&["warning: x: used without a piece list", "is not beside the lock"]);
    files.flip("x", [7]);
    verify(&files, 5, &[]).out_has(&["wrong    x: has SHA-256 "]);
    // Nothing is missed for a file that is not there.
    fs::remove_file(files.directory.path().join("x")).unwrap();
    verify(&files, 5, &[]).out_is("wrong    x: missing\n").err_lacks(&["warning"]);
}

#[test]
fn fault_175_the_full_check_finds_a_list_of_another_file() {
    let size = 2 * MAX_PIECE + 5;
    let (bytes, other) = (Content::generated(1, size).to_vec(), Content::generated(2, size).to_vec());
    let of_other = list_of(&other, &[]);
    let sha256 = Sha256::of(&bytes);
    let says = format!("the piece list of x does not describe the file with SHA-256 {sha256}: ");
    let author = "the lock's author writes a right piece list with `lock pieces`";
    // The list of another file by its own words: without --full it is not used.
    let files = with_lists_on_disk(of_other.clone());
    verify(&files, 0, &[]).err_has(&["warning: x: used without a piece list: "]);
    let Ended { out, err, .. } = verify(&files, 5, &["--full"]);
    has(&out, &[&says, "it describes no such file"]);
    has(&err, &[author]);
    assert!(!err.contains("the next fetch"), "{err}");
    // Pieces of another file under the right file's digest.
    let files = with_lists_on_disk(PieceList::new(size, sha256, of_other.pieces().to_vec()).unwrap());
    has(
        &verify(&files, 5, &["--full"]).out,
        &[&says, "the file has this digest, and by the list bytes 0 to 8388612 are wrong"],
    );
    fs::write(files.directory.path().join("x"), &other).unwrap();
    verify(&files, 0, &[]).err_has(&["; 1 of them by piece lists"]);
    verify(&files, 5, &["--full"]).out_has(&[&says, "by the list the file is right, and it has SHA-256 "]);
}
