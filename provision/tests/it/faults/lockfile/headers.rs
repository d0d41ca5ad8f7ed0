//! Locks that pin broken safetensors files: they are installed, with a warning that no loader will accept them.

use provision_core::event::Event;
use provision_testbed::Content;

use crate::program::{program, run};
use crate::world::World;

fn safetensors(header: &str, data: usize) -> Content {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    Content::bytes(bytes)
}

const GOOD: &str = r#"{"w":{"dtype":"BF16","shape":[100],"data_offsets":[0,200]}}"#;

fn warnings(world: &World) -> Vec<String> {
    world.events.filter_map(|event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn only_a_wrong_safetensors_header_is_warned_about() {
    let mut world = World::new();
    world.file("good.safetensors", &safetensors(GOOD, 200)).file("other.gguf", &safetensors("{", 10));
    world.fetch_all();
    assert_eq!(warnings(&world), Vec::<String>::new());

    world
        .file("d/cut.safetensors", &safetensors(GOOD, 150))
        .file("d/page.SafeTensors", &safetensors("{", 10));
    let report = world.fetch_all();
    assert!(report.is_complete());
    let said = warnings(&world);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("d/cut.safetensors: it has the SHA-256 that the lock names"), "{said:?}");
    assert!(said[0].contains("up to 200") && said[0].contains("150 are there"), "{said:?}");
    // The warning is printed only when the file is fetched.
    world.config.verify = provision_engine::fetch::Verify::Full;
    world.fetch_all();
    assert_eq!(warnings(&world).len(), 2);
}

#[test]
fn a_wrong_header_does_not_change_the_exit_code() {
    let mut world = World::new();
    world.file("x.safetensors", &safetensors("<!doctype html>", 10));
    let mut command = program(&world);
    command.args(["fetch", "--lock"]).arg(world.write_lock()).arg("--dest").arg(world.destination());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("no loader will take it: its header is not what the format asks for"),
        "{}",
        ended.err
    );
    world.assert_installed();
}
