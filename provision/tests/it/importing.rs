//! `provision lock import` through the binary: workflows, pictures, scripts and lists become a lock.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use crate::lock_commands::{Fixture, has};
use crate::prelude::*;

/// A PNG with one text, as far as a reader of texts looks.
fn png(key: &str, text: &str) -> Vec<u8> {
    let content = [key.as_bytes(), b"\0", text.as_bytes()].concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [b"\x89PNG\r\n\x1a\n", &length[..], b"tEXt", &content, &[0; 4]].concat()
}

#[test]
fn from_a_workflow_to_a_verified_folder_in_two_commands() {
    let fixture = Fixture::new();
    let (vae, lora) = (Content::generated(1, 3_000_000), Content::generated(2, 700_000));
    let files =
        [("split_files/vae/x.safetensors", vae.clone()), ("split_files/loras/y.safetensors", lora.clone())];
    fixture.hub.commit("o/r", "main", &files);
    let node = |path: &str, name: &str, directory: &str| {
        let url = format!("https://huggingface.co/o/r/resolve/main/{path}?download=true");
        serde_json::json!({"id": 1, "type": "Loader", "widgets_values": [name], "properties": {
            "models": [{"name": name, "url": url, "directory": directory}]
        }})
    };
    let workflow = serde_json::json!({
        "nodes": [node(files[0].0, "x.safetensors", "vae")],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [{"nodes": [node(files[1].0, "y.safetensors", "loras")]}]},
    });
    std::fs::write(fixture.path("workflow.json"), workflow.to_string()).unwrap();

    let out = fixture.run(0, &["lock", "import", "workflow.json", "--group", "mine"]).out;
    has(
        &out,
        &["added      vae/x.safetensors  3 MB", "added      loras/y.safetensors  700 kB", "hf:o/r@main/"],
    );
    fixture.run(0, &["fetch"]);

    assert_eq!(std::fs::read(fixture.path("models/vae/x.safetensors")).unwrap(), vae.to_vec());
    assert_eq!(std::fs::read(fixture.path("models/loras/y.safetensors")).unwrap(), lora.to_vec());
    fixture.run(0, &["verify"]);
    let out = fixture.run(0, &["lock", "import", "workflow.json"]).out;
    has(&out, &["unchanged  vae/x.safetensors", "unchanged  loras/y.safetensors"]);
}

#[test]
fn names_of_a_workflow_are_looked_up_and_links_are_offered() {
    let fixture = Fixture::new();
    let files = ["vae/x.safetensors", "loras/y.safetensors", "weights/z.safetensors"];
    let files = files.map(|path| (path, Content::generated(path.len() as u64, 3000)));
    fixture.hub.commit("o/r", "main", &files);
    fixture.run(0, &["lock", "add", "hf:o/r/vae/x.safetensors", "--lock", "names.lock"]);
    let api = serde_json::json!({"1": {"class_type": "VAELoader", "inputs": {"vae_name": "sub\\x.safetensors"}},
        "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "u.safetensors"}}});
    std::fs::write(fixture.path("picture"), png("prompt", &api.to_string())).unwrap();

    // Nothing was added, and the way out is there.
    let err = fixture.run(2, &["lock", "import", "picture"]).err;
    has(&err, &["picture, node 1 (VAELoader): sub/x.safetensors", "u.safetensors", "--names FILE"]);
    let Ended { out, err, .. } = fixture.run(0, &["lock", "import", "picture", "--names", "names.lock"]);
    has(&out, &["added      vae/sub/x.safetensors"]);
    has(&err, &["node 2 (UNETLoader): u.safetensors"]);
    assert!(!err.contains("x.safetensors:"), "{err}");
    // It follows the branch that the dictionary's entry follows.
    has(&fixture.lock(), &["source = \"hf:o/r/vae/x.safetensors\""]);
    let before = fixture.lock();
    let out = fixture.run(0, &["lock", "import", "picture", "--names", "models.lock"]).out;
    has(&out, &["unchanged  vae/sub/x.safetensors"]);
    assert_eq!(fixture.lock(), before);

    let hub = "https://huggingface.co/o/r/resolve/main";
    let note = format!("## LoRA\n[y]({hub}/loras/y.safetensors)\n## Others\n{hub}/weights/z.safetensors");
    let workflow =
        serde_json::json!({"nodes": [{"id": 4, "type": "MarkdownNote", "widgets_values": [note]}]});
    std::fs::write(fixture.path("picture"), png("workflow", &workflow.to_string())).unwrap();
    let err = fixture.run(2, &["lock", "import", "picture"]).err;
    has(&err, &["note: 2 links to model files in notes are not used; --notes takes them"]);
    let Ended { out, err, .. } = fixture.run(2, &["lock", "import", "picture", "--notes"]);
    has(&out, &["added      loras/y.safetensors"]);
    has(&err, &["node 4 (MarkdownNote)", "lock add hf:o/r@main/weights/z.safetensors --path FOLDER/"]);

    std::fs::write(fixture.path("picture"), png("parameters", "a cat")).unwrap();
    let err = fixture.run(2, &["lock", "import", "picture"]).err;
    has(&err, &["picture is a PNG picture without a workflow", "export the workflow from ComfyUI"]);
    // A pipe cannot be read at any position.
    let mut command = fixture.command(&["lock", "import", "-"]);
    let (import, mut input) = start_with_input(&mut command);
    input.write_all(&png("prompt", &api.to_string())).unwrap();
    drop(input);
    import.end().exits(2).err_has(&["standard input, node 2 (UNETLoader): u.safetensors"]);
}

#[test]
fn a_workflow_import_names_files_without_a_url() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", Content::generated(1, 300_000))]);
    let with_address = serde_json::json!({"id": 1, "type": "VAELoader", "widgets_values": ["x.safetensors"],
        "properties": {"models": [{"name": "x.safetensors", "directory": "vae",
            "url": "https://huggingface.co/o/r/resolve/main/vae/x.safetensors"}]}});
    let without = serde_json::json!({"id": 2, "type": "\u{1b}[2JUpscale", "widgets_values": ["4x.pth"]});
    let workflow = |nodes: &[&serde_json::Value]| serde_json::json!({"nodes": nodes}).to_string();
    std::fs::write(fixture.path("w.json"), workflow(&[&with_address, &without])).unwrap();
    let Ended { out, err, .. } = fixture.run(0, &["lock", "import", "w.json"]);
    has(&out, &["added      vae/x.safetensors"]);
    has(&err, &["not in the lock", "node 2 (·[2JUpscale): 4x.pth", "`provision lock add SOURCE`"]);
    assert!(!err.contains('\u{1b}'));
    fixture.run(0, &["fetch", "--progress", "none"]);
    assert!(fixture.path("models/vae/x.safetensors").exists());

    // A file that is present in another way is no longer missing.
    fixture.site.put("/4x.pth", Content::generated(2, 1000));
    fixture.run(0, &["lock", "add", &fixture.site.url("/4x.pth"), "--path", "upscale_models/"]);
    let before = std::fs::metadata(fixture.path("models.lock")).unwrap();
    fixture.run(0, &["lock", "import", "w.json"]).err_is("");
    fixture.run(0, &["lock", "update"]);
    fixture.run(0, &["lock", "add", "hf:o/r/vae/x.safetensors"]);
    let after = std::fs::metadata(fixture.path("models.lock")).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec()),
        "nothing is rewritten"
    );

    // A lock without any URL cannot be fetched: that is a failure.
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    for text in [workflow(&[&without]), workflow(&[])] {
        std::fs::write(fixture.path("w.json"), text).unwrap();
        fixture.run(2, &["lock", "import", "w.json"]).err_has(&["nothing was added"]);
        assert!(!fixture.path("models.lock").exists());
    }
}

#[test]
fn an_invalid_line_does_not_keep_others_out() {
    let fixture = Fixture::new();
    let content = Content::generated(1, 300_000);
    fixture.hub.commit(
        "o/r",
        "main",
        &[("vae/x.safetensors", content.clone()), ("vae/y.safetensors", content)],
    );
    std::fs::write(
        fixture.path("list"),
        "hf:o/r/vae/x.safetensors\nsome prose here\nhf:o/r/vae/y.safetensors\n",
    )
    .unwrap();
    let Ended { out, err, .. } = fixture.run(2, &["lock", "import", "list"]);
    has(&out, &["added      vae/x.safetensors", "added      vae/y.safetensors"]);
    has(&err, &["list:2: not understood: the line has 3 columns"]);
    has(&fixture.lock(), &["vae/x.safetensors", "vae/y.safetensors"]);
}

#[test]
fn a_list_is_imported_as_far_as_it_resolves() {
    let fixture = Fixture::new();
    let content = Content::generated(1, 300_000);
    fixture.hub.commit("o/r", "main", &[("vae/x.safetensors", content.clone())]);
    fixture.site.put("/f/vae/y.bin", content.clone());
    let list = format!(
        "hf:o/r/vae/x.safetensors\n{}\nhf:o/r/vae/none.safetensors\nhttps://u:p@h/x\n",
        fixture.site.url("/f/vae/y.bin")
    );
    let mut command = fixture.command(&["lock", "import", "-", "--format", "urls", "--allow-private"]);
    let (import, mut input) = start_with_input(&mut command);
    input.write_all(list.as_bytes()).unwrap();
    drop(input);
    let Ended { out, err, .. } = import.end().exits(4);
    has(&out, &["added      vae/x.safetensors", "added      vae/y.bin"]);
    has(&err, &["standard input:3", "none.safetensors", "standard input:4", "2 failures"]);
    has(&fixture.lock(), &["vae/x.safetensors", "vae/y.bin"]);

    // A file that was read for its digest is not requested again.
    let requests = fixture.site.counters().path("/f/vae/y.bin").requests;
    fixture.run(0, &["fetch", "y", "--progress", "none"]);
    assert_eq!(fixture.site.counters().path("/f/vae/y.bin").requests, requests);
    assert_eq!(std::fs::read(fixture.path("models/vae/y.bin")).unwrap(), content.to_vec());
    assert!(fixture.store.counters().requests > 0);
}

#[test]
fn a_provisioning_script_becomes_a_lock() {
    let fixture = Fixture::new();
    let content = |seed| Content::generated(seed, 30_000);
    let files = [("a/x.safetensors", content(1)), ("weights/y.safetensors", content(2))];
    fixture.hub.commit("o/r", "main", &files);
    let style = fixture.site.url("/download");
    for (path, seed) in [("/download", 3), ("/other", 4)] {
        fixture.site.put(path, content(seed));
        let name = "attachment; filename=\"style.safetensors\"";
        fixture.site.inject(path, Fault::Headers(vec![("Content-Disposition".to_owned(), name.to_owned())]));
    }
    let script = format!(
        "#!/bin/bash\nD=${{WORKSPACE}}/ComfyUI/models\nVAE_MODELS=(\n  \"https://huggingface.co/o/r/resolve/main/a/x.safetensors\"\n)\n\
         get() {{ dir=\"$1\"; shift; for url in \"$@\"; do wget -qnc -P \"$dir\" \"$url\"; done; }}\n\
         get \"$D/vae\" \"${{VAE_MODELS[@]}}\"\nhf download o/r weights/y.safetensors\n\
         wget --header=\"Authorization: Bearer canary\" -P $D/loras \"{style}?id=7\" # the style\n"
    );
    let import = ["lock", "import", "get.sh", "--allow-private"];
    std::fs::write(fixture.path("get.sh"), format!("{script}wget \"$SOMEWHERE/z.safetensors\"\n")).unwrap();
    let Ended { out, err, .. } = fixture.run(2, &import);
    has(&out, &["added      vae/x.safetensors", "added      loras/style.safetensors"]);
    has(&err, &["get.sh:8", "names its folder", "get.sh:10", "only a run of the script", "get.sh:9: header"]);
    std::fs::write(fixture.path("get.sh"), script).unwrap();
    let Ended { out, err, .. } = fixture.run(0, &[&import[..], &["--folder", "text_encoders"]].concat());
    has(&out, &["added      text_encoders/y.safetensors"]);
    assert!(!fixture.lock().contains("canary") && !err.contains("canary"), "{err}");
    fixture.run(0, &["fetch", "--progress", "none"]);

    // Another URL's file never takes the place of an entry by its name.
    let before = fixture.lock();
    let other = fixture.site.url("/other");
    let err = fixture.run(2, &["lock", "add", &other, "--path", "loras/"]).err;
    has(&err, &["loras/style.safetensors", "another URL", "--path"]);
    assert_eq!(fixture.lock(), before);
    fixture.run(0, &["lock", "add", &other, "--path", "loras/other.safetensors"]);

    std::fs::write(fixture.path("none.sh"), format!("#!/bin/sh\n{}", "echo a://b c\n".repeat(3000))).unwrap();
    let Ended { err, .. } = fixture.run(2, &["lock", "import", "none.sh"]);
    has(&err, &["none.sh: no download found in this script"]);
    assert!(err.lines().count() < 4, "{err}");
}
