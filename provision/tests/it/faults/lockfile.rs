//! Locks with invalid, hostile or changing content (faults 56 to 65, 154 to 157).

mod headers;
mod large;
mod pieces;
mod places;
mod refused;
mod running;

use crate::prelude::*;

#[test]
fn fault_65_a_pickle_is_fetched_with_a_warning() {
    let mut fixture = Fixture::new();
    for path in ["a.ckpt", "b.pt", "c.bin", "d.safetensors", "e.pth"] {
        fixture.file(path, &Content::generated(1, 1000 + path.len() as u64));
    }
    fixture.fetch_all();
    assert_eq!(
        fixture
            .events
            .count(|event| matches!(event, Event::Warning { message } if message.contains("pickle"))),
        1,
        "one for all of them"
    );
    let text = fixture.events.text();
    assert!(text.contains("a.ckpt, b.pt, c.bin and 1 more: files of this kind"), "{text}");
    assert!(text.contains("pickle") && text.contains("runs the code"), "{text}");
    assert!(!text.contains("safetensors,"));
}
