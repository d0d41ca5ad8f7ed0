use serde_json::json;

use super::super::{Format, List, read};
use super::*;

const HUB: &str = "https://huggingface.co/o/r/resolve/main/";

fn directories(note: &str) -> Vec<(String, Option<String>)> {
    let note = note.replace("HUB/", HUB);
    let links = links_of(&note).into_iter();
    links.map(|link| (last(link.address).to_owned(), link.directory)).collect()
}

fn workflow(nodes: &Value) -> List {
    let text = json!({"nodes": nodes}).to_string();
    read("w.json", text.as_bytes(), Some(Format::Workflow)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_note_names_the_folder_of_a_link_in_many_ways() {
    for (note, expected) in [
        ("**vae**\n\n- [x.safetensors](HUB/x.safetensors) (1 GB)", Some("vae")),
        ("## Text Encoder：\n[x](HUB/x.safetensors)", Some("text_encoders")),
        ("**LoRA** (optional)\nHUB/x.safetensors", Some("loras")),
        ("VAE Model:\n<HUB/x.safetensors>", Some("vae")),
        ("- **diffusion models** — pick one\n- [x](HUB/x.safetensors)", Some("diffusion_models")),
        ("# loras\n### FP8\nHUB/x.safetensors", Some("loras")),
        ("Put [x](HUB/x.safetensors) in `ComfyUI/models/loras/flux`.", Some("loras/flux")),
        ("[x](HUB/x.safetensors)\ngoes to ComfyUI\\models\\clip_vision\\y.safetensors", Some("clip_vision")),
        ("Save this to the **ComfyUI/models/controlnet** folder:\n\nHUB/x.safetensors", Some("controlnet")),
        ("place HUB/x.safetensors into your embeddings folder", Some("embeddings")),
        ("HUB/x.safetensors\n```\n📂 models/\n└── 📂 vae/\n    └── x.safetensors (1 GB)\n```", Some("vae")),
        (
            "**loras**\nHUB/x.safetensors\n📂 ComfyUI/\n├─📂 models/\n│ ├─ 📂 vae/\n│ └─📂 loras/\n│    └─ 📂 flux\n│       └──x.safetensors",
            Some("loras/flux"),
        ),
        // The words beside the link count before a drawing that contradicts them.
        (
            "**vae**\nHUB/x.safetensors\n\n📂 models/\n├ 📂 loras/\n│ ├ a.safetensors│ └ vae\n│ └ x.safetensors",
            Some("vae"),
        ),
        // Not ComfyUI's, or no word of a folder.
        ("## vae\n## Report\nHUB/x.safetensors", None),
        ("**vae**\n**Notes**\nHUB/x.safetensors", None),
        ("Put HUB/x.safetensors in models/mine", None),
        ("models/vae/../x HUB/x.safetensors", None),
        ("the vae is fine: HUB/x.safetensors", None),
        ("[models](https://modelscope.cn/models/vae/r) and HUB/x.safetensors", None),
    ] {
        let found = directories(note);
        let of_file = found.iter().find(|(file, _)| file == "x.safetensors");
        assert_eq!(of_file.map(|(_, directory)| directory.as_deref()), Some(expected), "{note}: {found:?}");
    }
}

#[test]
fn links_are_model_files_that_the_workflow_has_not() {
    let text = format!(
        "**vae** {HUB}a.safetensors, [page](https://huggingface.co/o/r), {HUB}readme.md, {HUB}a.safetensors?download=true\n\
         [b.safetensors](https://civitai.com/api/download/models/5)\n{HUB}known.safetensors\nhttps://u:pw@h/x.safetensors"
    );
    let known =
        json!({"name": "known.safetensors", "url": "https://h/known.safetensors", "directory": "vae"});
    let mut list = workflow(&json!([
        {"id": 1, "type": "MarkdownNote", "widgets_values": [text]},
        {"id": 2, "type": "VAELoader", "widgets_values": ["a.safetensors"], "properties": {"models": [known]}},
        {"id": 3, "type": "LoraLoaderModelOnly", "widgets_values": {"lora_name": "sub\\b.safetensors"}},
        {"id": 4, "type": "Downloader", "widgets_values": [[{"url": format!("{HUB}c.gguf")}]]},
    ]));
    assert_eq!((list.models.len(), list.unused.len()), (1, 2), "{list:#?}");
    let links = |list: &[ImportedModel]| -> Vec<(String, String, Option<String>)> {
        let of =
            |model: &ImportedModel| (model.name.clone(), model.source.to_string(), model.directory.clone());
        list.iter().map(of).collect()
    };
    let hub = |file: &str| format!("hf:o/r@main/{file}");
    assert_eq!(
        links(&list.links),
        [
            ("a.safetensors".to_owned(), hub("a.safetensors"), Some("vae".to_owned())),
            ("b.safetensors".to_owned(), "civitai:5".to_owned(), Some("loras".to_owned())),
            ("c.gguf".to_owned(), hub("c.gguf"), None),
        ]
    );
    // They are no models until they are taken.
    list.take_links();
    assert_eq!((list.models.len(), list.unused.len(), list.links.len()), (4, 0, 0), "{list:#?}");
}

#[test]
fn a_hostile_note_ends_soon() {
    let deep = (0..20_000).map(|at| " ".repeat(at % 900) + "└ d\n").collect::<String>();
    let many: Vec<String> = (0..20_000).map(|at| format!("[{HUB}{at}.safetensors](")).collect();
    let many = many.concat();
    let brackets = "[".repeat(1 << 20) + "](https://h/x.safetensors)" + &"models/".repeat(1 << 17);
    let begun = std::time::Instant::now();
    let list = workflow(&json!([{"id": 1, "type": "Note", "widgets_values": [deep, many, brackets]}]));
    assert_eq!((list.links.len(), list.unused.len()), (20_001, 0));
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn a_long_note_is_read_in_linear_time() {
    let names = || (0..20_000).map(|at| format!("{at}.pt"));
    let links: Vec<String> = names().map(|name| format!("https://h/{name}\n")).collect();
    let note = links.concat() + &"the loras folder\n".repeat(20_000) + "the vae folder";
    let widgets: Vec<String> = names().map(|name| format!("sub/{name}")).chain([note]).collect();
    let begun = std::time::Instant::now();
    let mut list = workflow(&json!([{"id": 1, "type": "Note", "widgets_values": widgets}]));
    list.take_links();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    assert_eq!((list.models.len(), list.unused.len()), (20_000, 0));
    assert!(list.models.iter().all(|model| model.directory.as_deref() == Some("vae")));
}
