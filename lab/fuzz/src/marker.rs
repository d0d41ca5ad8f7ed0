//! The marker: garbage is none, and what is one says the same when it is written again.

use provision_engine::written_again as marker;

use crate::model_path;

/// An input is a marker's text.
pub fn check(data: &[u8]) {
    let Some((written, paths)) = marker(data) else { return };
    let start = data.iter().find(|b| !b.is_ascii_whitespace());
    assert!(matches!(start, Some(b'{' | b'[')), "no JSON");
    paths.iter().for_each(model_path::stays_beneath);
    let (again, same) = marker(&written).expect("what was written is a marker");
    assert_eq!(again, written, "it says something else when it is written again");
    assert_eq!(paths, same);
    // Torn anywhere, it is none: a run that was killed while it wrote must not have said anything.
    for cut in [written.len() / 2, written.len() - 1] {
        assert!(marker(&written[..cut]).is_none(), "a torn marker is believed");
    }
}
