use std::io::Cursor;

use serde_json::json;

use super::super::{Format, read};
use super::*;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";
const OTHER: &str = "cb5636d852a0ea6a9075ab1bef496c0db7aef13c02350571e388aea959c5c0b4";

fn lock(models: &[(&str, &str, &str)]) -> String {
    let entry = |(path, url, sha256): &(&str, &str, &str)| {
        format!("[[model]]\npath = \"{path}\"\nurl = \"{url}\"\nsize = 5\nsha256 = \"{sha256}\"\n\n")
    };
    "version = 1\n\n".to_owned() + &models.iter().map(entry).collect::<String>()
}

fn dictionary(texts: &[&str]) -> Dictionary {
    let mut dictionary = Dictionary::default();
    for (at, text) in texts.iter().enumerate() {
        let added = dictionary.add(&format!("names{at}"), &mut Cursor::new(text.as_bytes()));
        added.unwrap_or_else(|error| panic!("{error}"));
    }
    dictionary
}

/// The list of one node in API format.
fn api(class: &str, inputs: &serde_json::Value) -> List {
    let text = json!({"prompt": {"3": {"class_type": class, "inputs": inputs}}}).to_string();
    read("api.json", text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn looked_up(dictionary: &Dictionary, class: &str, input: &str, name: &str) -> Vec<String> {
    let mut list = api(class, &json!({input: name, "seed": 1, "model": ["4", 0]}));
    dictionary.look_up(&mut list);
    let models = list.models.iter().map(|model| {
        let path = model.destination().map_or_else(|error| error.to_string(), |path| path.to_string());
        format!("{path} {}", model.source)
    });
    models.chain(list.unused.iter().map(ToString::to_string)).collect()
}

#[test]
fn an_api_workflow_names_files_in_each_of_its_forms() {
    let nodes = json!({"7": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl\\x.safetensors"}},
        "8": {"class_type": "KSampler", "inputs": {"model": ["7", 0], "text": "a.safetensors of b"}}});
    for text in [
        nodes.to_string(),
        json!({"prompt": nodes, "client_id": "c"}).to_string(),
        json!({"input": {"workflow": nodes, "images": []}}).to_string(),
        nodes.to_string().replace("\"a.safetensors of b\"", "[NaN, -Infinity, \"NaN\"]"),
    ] {
        let list = read("api.json", text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((list.format, list.models.len(), list.unused.len()), (Format::Api, 0, 1), "{text}");
        let said = list.unused[0].to_string();
        assert_eq!(
            said,
            "api.json, node 7 (CheckpointLoaderSimple): sdxl/x.safetensors: the workflow has no URL for it"
        );
    }
}

#[test]
fn a_name_is_found_by_path_and_then_by_file_name() {
    let lock = lock(&[
        ("checkpoints/sdxl/x.safetensors", "https://h/1.safetensors", SHA),
        ("checkpoints/x.safetensors", "https://h/2.safetensors", OTHER),
        ("clip/t5.safetensors", "https://h/3.safetensors", SHA),
        ("loras/only.safetensors", "https://h/4.safetensors", SHA),
    ]);
    let names = dictionary(&[&lock]);
    let (checkpoint, lora) = (("CheckpointLoaderSimple", "ckpt_name"), ("LoraLoader", "lora_name"));
    for ((class, input), name, expected) in [
        (checkpoint, "sdxl/x.safetensors", "checkpoints/sdxl/x.safetensors https://h/1.safetensors"),
        (checkpoint, "sdxl\\x.safetensors", "checkpoints/sdxl/x.safetensors https://h/1.safetensors"),
        (checkpoint, "x.safetensors", "checkpoints/x.safetensors https://h/2.safetensors"),
        // Names of today and before.
        (("DualCLIPLoader", "clip_name2"), "t5.safetensors", "clip/t5.safetensors https://h/3.safetensors"),
        // Where the workflow names it.
        (lora, "mine/only.safetensors", "loras/mine/only.safetensors https://h/4.safetensors"),
        (("Unknown", "file"), "only.safetensors", "loras/only.safetensors https://h/4.safetensors"),
    ] {
        assert_eq!(looked_up(&names, class, input, name), [expected], "{class} {name}");
    }
    let mut list = api("LoraLoader", &json!({"lora_name": "only.safetensors"}));
    names.look_up(&mut list);
    let model = &list.models[0];
    assert_eq!((model.size, model.sha256.map(|sha256| sha256.to_string()).as_deref()), (Some(5), Some(SHA)));
    assert_eq!(model.place.to_string(), "api.json, node 3 (LoraLoader)");
}

#[test]
fn several_files_of_one_name_are_listed_and_none_is_taken() {
    let first = lock(&[("loras/x.safetensors", "https://h/1.safetensors", SHA)]);
    let manager = json!({"models": [{"filename": "x.safetensors", "save_path": "loras", "url": "https://m/x.safetensors"}]});
    let names = dictionary(&[&first, &manager.to_string()]);
    assert_eq!(
        candidates(&names, "LoraLoader", "lora_name", "it's/x.safetensors"),
        [
            "https://h/1.safetensors loras/it's/x.safetensors (names0, loras/x.safetensors)",
            "https://m/x.safetensors loras/it's/x.safetensors (names1, entry 1)",
        ]
    );
    // The same bytes are one file.
    let same = lock(&[("loras/y/x.safetensors", "https://mirror/1.safetensors", SHA)]);
    let names = dictionary(&[&first, &same]);
    let mut list = api("LoraLoader", &json!({"lora_name": "y/x.safetensors"}));
    names.look_up(&mut list);
    assert_eq!((list.models.len(), list.unused.len()), (1, 0));
    let mut list = api("LoraLoader", &json!({"lora_name": "z/x.safetensors"}));
    names.look_up(&mut list);
    assert_eq!(list.models[0].mirrors, ["https://mirror/1.safetensors".parse().unwrap()]);
    // A file for another folder is another file.
    let said = candidates(&names, "VAELoader", "vae_name", "x.safetensors");
    assert_eq!(said, ["https://h/1.safetensors vae/x.safetensors (names0, loras/x.safetensors)"]);
}

/// The files that a name could be.
fn candidates(dictionary: &Dictionary, class: &str, input: &str, name: &str) -> Vec<String> {
    let mut list = api(class, &json!({input: name}));
    dictionary.look_up(&mut list);
    let [Unused { why: UnusedReason::Unsure { candidates }, .. }] = &list.unused[..] else {
        panic!("{list:?}");
    };
    candidates.iter().map(|file| format!("{} {} ({})", file.source, file.path, file.place)).collect()
}

#[test]
fn one_url_with_two_digests_is_two_files() {
    let [before, now] = [SHA, OTHER].map(|digest| lock(&[("loras/x.bin", "https://h/x.bin", digest)]));
    let names = dictionary(&[&before, &now]);
    assert_eq!(candidates(&names, "LoraLoader", "lora_name", "x.bin").len(), 2);
}

#[test]
fn another_machines_directories_and_endpoints_are_left_out() {
    for source in ["file:///mnt/models", "s3://b/k?endpoint=https://evil.example"] {
        let names = dictionary(&[&lock(&[("loras/x.bin", source, SHA)])]);
        let said = looked_up(&names, "LoraLoader", "lora_name", "x.bin");
        assert!(!said[0].contains("evil") && !said[0].contains("mnt"), "{said:?}");
        let names = dictionary(&[&lock(&[("loras/x.bin", "s3://b/k?region=eu-west-1", SHA)])]);
        let said = looked_up(&names, "LoraLoader", "lora_name", "x.bin");
        assert!(said[0].contains("s3://b/k"), "{said:?}");
    }
}

#[test]
fn a_workflow_is_a_dictionary_and_has_names_too() {
    let known =
        json!({"name": "x.safetensors", "url": "https://h/x.safetensors", "directory": "vae", "hash": SHA});
    let with =
        json!({"nodes": [{"id": 1, "type": "VAELoader", "properties": {"models": [known]}}]}).to_string();
    let without =
        json!({"nodes": [{"id": 9, "type": "VAELoader", "widgets_values": ["x.safetensors"]}]}).to_string();
    let mut list = read("w.json", without.as_bytes(), None).unwrap();
    dictionary(&[&with]).look_up(&mut list);
    assert_eq!((list.models.len(), list.unused.len()), (1, 0), "{list:#?}");
    assert_eq!(list.models[0].sha256.map(|sha256| sha256.to_string()).as_deref(), Some(SHA));
}

#[test]
fn a_broken_dictionary_is_an_error_without_its_secrets() {
    let secret = "version = 1\n[[model]]\npath = \"vae/x\"\nurl = \"https://u:canary@h/x\"\n";
    for text in [secret, "[[model]]\nurl = \"https://h/x?token=canary\"", "{\"a\": \"canary\"}", ""] {
        let error = Dictionary::default().add("names", &mut Cursor::new(text.as_bytes())).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(error.to_string().starts_with("names") && !said.contains("canary"), "{said}");
    }
}
