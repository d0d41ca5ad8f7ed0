//! Locks with invalid, hostile or changing content (faults 56 to 65).

mod headers;
mod large;
mod refused;
mod running;

use provision_core::event::Event;
use provision_testbed::Content;

use crate::world::World;

#[test]
fn fault_65_a_pickle_is_fetched_with_a_warning() {
    let mut world = World::new();
    for path in ["a.ckpt", "b.pt", "c.bin", "d.safetensors", "e.pth"] {
        world.file(path, &Content::generated(1, 1000 + path.len() as u64));
    }
    world.fetch_all();
    assert_eq!(
        world.events.count(|event| matches!(event, Event::Warning { message } if message.contains("pickle"))),
        1,
        "one for all of them"
    );
    let text = world.events.text();
    assert!(text.contains("a.ckpt, b.pt, c.bin and 1 more: files of this kind"), "{text}");
    assert!(text.contains("pickle") && text.contains("runs the code"), "{text}");
    assert!(!text.contains("safetensors,"));
}
