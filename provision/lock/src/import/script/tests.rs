//! Scripts in the shapes of public ones.

use super::*;
use crate::import::{UnusedReason, read as read_any};

/// The files of a script, as `SOURCE -> DIRECTORY NAME`.
fn files(text: &str) -> Vec<String> {
    let list = list(text);
    assert!(list.unused.is_empty(), "{:#?}", list.unused);
    shown(&list)
}

fn read_text(text: &str) -> Result<List, ImportError> {
    read_any("script.sh", text.as_bytes(), None)
}

fn list(text: &str) -> List {
    let list = read_text(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(list.format, Format::Script, "{text}");
    list
}

fn shown(list: &List) -> Vec<String> {
    let show = |model: &ImportedModel| {
        format!("{} -> {} {}", model.source, model.directory.as_deref().unwrap_or("?"), model.name)
    };
    list.models.iter().map(show).collect()
}

fn unused(list: &List) -> Vec<String> {
    list.unused.iter().map(ToString::to_string).collect()
}

const PROVISIONING: &str = r#"#!/bin/bash
source /venv/main/bin/activate
COMFYUI_DIR=${WORKSPACE}/ComfyUI

APT_PACKAGES=(
    #"package-1"
)
NODES=(
    "https://github.com/o/node"
)
WORKFLOWS=("https://h.example/w.json")
CHECKPOINT_MODELS=(
    "https://civitai.com/api/download/models/11?type=Model&format=SafeTensor" # the newest
    # "https://h.example/old.safetensors"
)
UNET_MODELS=( "https://h.example/u1.safetensors" 'https://h.example/u2.safetensors' )
LORA_MODELS=()
LORA_MODELS+=("https://h.example/l.safetensors")
VAE_MODELS=(
    "https://huggingface.co/o/r/resolve/main/x/ae.safetensors"
)

function provisioning_start() {
    provisioning_get_files "${COMFYUI_DIR}/models/checkpoints" "${CHECKPOINT_MODELS[@]}"
    provisioning_get_files \
        "${COMFYUI_DIR}/models/unet" \
        "${UNET_MODELS[@]}"
    provisioning_get_files "${COMFYUI_DIR}/models/lora" "${LORA_MODELS[@]}"
    provisioning_get_files "${COMFYUI_DIR}/models/vae" "${VAE_MODELS[@]}"
}

function provisioning_get_files() {
    if [[ -z $2 ]]; then return 1; fi
    dir="$1"
    mkdir -p "$dir"
    shift
    arr=("$@")
    printf "Downloading %s model(s) to %s...\n" "${#arr[@]}" "$dir"
    for url in "${arr[@]}"; do
        printf "Downloading: %s\n" "${url}"
        provisioning_download "${url}" "${dir}"
        printf "\n"
    done
}

function provisioning_download() {
    if [[ -n $HF_TOKEN && $1 =~ ^https://([a-zA-Z0-9_-]+\.)?huggingface\.co(/|$|\?) ]]; then
        auth_token="$HF_TOKEN"
    elif [[ -n $CIVITAI_TOKEN && $1 =~ ^https://([a-zA-Z0-9_-]+\.)?civitai\.com(/|$|\?) ]]; then
        auth_token="$CIVITAI_TOKEN"
    fi
    if [[ -n $auth_token ]];then
        wget --header="Authorization: Bearer $auth_token" -qnc --content-disposition --show-progress -e dotbytes="${3:-4M}" -P "$2" "$1"
    else
        wget -qnc --content-disposition --show-progress -e dotbytes="${3:-4M}" -P "$2" "$1"
    fi
}

if [[ ! -f /.noprovisioning ]]; then
    provisioning_start
fi
"#;

#[test]
fn a_provisioning_scripts_own_calls_say_the_folders() {
    let list = list(PROVISIONING);
    assert_eq!(
        shown(&list),
        [
            "civitai:11?type=Model&format=SafeTensor -> checkpoints ",
            "https://h.example/u1.safetensors -> unet u1.safetensors",
            "https://h.example/u2.safetensors -> unet u2.safetensors",
            "https://h.example/l.safetensors -> loras l.safetensors",
            "hf:o/r@main/x/ae.safetensors -> vae ae.safetensors",
        ]
    );
    assert_eq!(list.models[0].place.to_string(), "script.sh:13");
    assert_eq!(list.models[2].place.to_string(), "script.sh:16");
    let said = unused(&list);
    assert!(said.len() == 1 && said[0].starts_with("script.sh:53: header: this option"), "{said:#?}");
}

#[test]
fn an_array_by_itself_says_the_folder_by_its_name() {
    for (name, folder) in [
        ("CHECKPOINT_MODELS", "checkpoints"),
        ("CIVITAI_CHECKPOINT_MODELS", "checkpoints"),
        ("UNET_MODELS", "diffusion_models"),
        ("DIFFUSION_MODELS", "diffusion_models"),
        ("lora_urls", "loras"),
        ("VAE_MODELS", "vae"),
        ("ESRGAN_MODELS", "upscale_models"),
        ("UPSCALE_MODELS", "upscale_models"),
        ("LATENT_UPSCALE_MODELS", "latent_upscale_models"),
        ("CONTROLNET_MODELS", "controlnet"),
        ("CLIP_MODELS", "text_encoders"),
        ("TEXT_ENCODERS", "text_encoders"),
        ("CLIP_VISION", "clip_vision"),
        ("MODELS", "?"),
    ] {
        let text = format!("{name}=(\n  \"https://h.example/a.safetensors\"\n)\n");
        assert_eq!(files(&text), [format!("https://h.example/a.safetensors -> {folder} a.safetensors")]);
    }
    let text = "LORA_MODELS=(\n'https://h.example/d?id=7|style one.safetensors'\n\
                \"https://h.example/x.safetensors y.safetensors\"\n\
                \"vae/z.safetensors | https://h.example/z\"\n)\n\
                declare -A CLIP_MODELS=( [\"https://h.example/k.bin\"]=\"clip.bin\" )\n\
                HF_MODELS=(\n  \"https://h.example/m.pt\n  |$UNSET/controlnet/n.pt\"\n)\n\
                VAE_MODELS[\"https://h.example/v.pt\"]=\"w.pt\"\n\
                NODES=(\"https://h.example/n.safetensors\")\n";
    assert_eq!(
        files(text),
        [
            "https://h.example/d?… -> loras style one.safetensors",
            "https://h.example/x.safetensors -> loras y.safetensors",
            "https://h.example/z -> vae z.safetensors",
            "https://h.example/k.bin -> text_encoders clip.bin",
            "https://h.example/m.pt -> controlnet n.pt",
            "https://h.example/v.pt -> vae w.pt",
        ]
    );
}

#[test]
fn each_programs_options_give_the_place() {
    let hub = "https://huggingface.co/o/r/resolve/main/x.safetensors";
    for (line, expected) in [
        ("wget -P /workspace/ComfyUI/models/vae URL", "vae x.safetensors"),
        ("wget -nc --directory-prefix=models/vae \"URL\"", "vae x.safetensors"),
        ("wget -qO models/vae/y.safetensors URL || true", "vae y.safetensors"),
        ("wget -c --output-document=\"$M/models/vae/y.safetensors\" 'URL'", "vae y.safetensors"),
        ("sudo wget -U Mozilla --tries 3 -O ./models/loras/a/y.pt URL -q", "loras/a y.pt"),
        ("curl -L -C - -o models/vae/y.pt URL", "vae y.pt"),
        ("curl -fsSL --retry 5 --create-dirs --output-dir models/vae -O URL", "vae x.safetensors"),
        ("curl -L URL > models/vae/y.pt", "vae y.pt"),
        ("aria2c -x 16 -s16 -k 1M -c -d models/vae -o y.pt URL", "vae y.pt"),
        ("aria2c --console-log-level=error --dir=models/vae --out=y.pt URL && echo done", "vae y.pt"),
        ("cd /workspace/ComfyUI/models/vae && wget URL", "vae x.safetensors"),
        ("cd ComfyUI; cd models/loras; cd ../vae\nwget \\\n  URL", "vae x.safetensors"),
        ("mkdir -p $X/models/vae && (cd $X/models/vae; curl -LO URL)", "vae x.safetensors"),
        ("D=/w/models\nV=\"${D}/vae\"\nwget URL -O \"$V\"/y.pt", "vae y.pt"),
        ("for d in vae; do\n  wget -P ${BASE:-/opt}/models/$d URL &\ndone\nwait", "vae x.safetensors"),
        ("hf download o/r x.safetensors --local-dir models/vae", "vae x.safetensors"),
        ("huggingface-cli download o/r x.safetensors --revision main --token t", "? x.safetensors"),
        ("hf download o/r vae/x.safetensors --local-dir ComfyUI/models", "vae x.safetensors"),
        ("comfy --skip-prompt model download --url URL --relative-path models/vae", "vae x.safetensors"),
        (
            "f() { local u=\"$1\"; if [ ! -f \"$2\" ]; then wget -O \"$2\" \"$u\"; fi; }\nf URL models/vae/y.pt",
            "vae y.pt",
        ),
        ("D=models/vae/y.pt\naria2c -d \"$(dirname \"$D\")\" -o $(basename $D) URL", "vae y.pt"),
        ("f URL models/vae\nf() {\n  curl -L \"$1\" -o \"$2/$(basename \"$1\")\"\n}", "vae x.safetensors"),
        ("download_model URL models/vae/y.pt\nwget -V", "vae y.pt"),
        ("wget -P /data URL", "? x.safetensors"),
        ("get() { wget -P \"$2\" \"$1\"; }\nget URL \"$A\"\nget URL models/vae", "vae x.safetensors"),
    ] {
        let text = format!("#!/bin/sh\n{}\n", line.replace("URL", hub));
        let list = list(&text);
        let found = shown(&list);
        assert_eq!(found.len(), 1, "{line}: {list:#?}");
        let place = format!(" -> {expected}");
        assert!(found[0].starts_with("hf:o/r") && found[0].ends_with(&place), "{line}: {found:?}");
    }
}

#[test]
fn loops_and_here_documents_give_each_address() {
    let expected = ["https://h.example/a.pt -> vae a.pt", "https://h.example/b.pt -> vae b.pt"];
    for text in [
        "for u in https://h.example/a.pt https://h.example/b.pt; do wget -P models/vae $u; done\n",
        "U=\"https://h.example/a.pt\n  https://h.example/b.pt\"\nfor u in $U\ndo\nwget -P models/vae \"$u\"\ndone\n",
        "cd models/vae\nwget -i - <<EOF\nhttps://h.example/a.pt\n\nhttps://h.example/b.pt\nEOF\n",
        "while IFS='|' read -r u n; do\n curl -L \"$u\" -o \"models/vae/$n\"\ndone <<'X'\n\
         https://h.example/a.pt|a.pt\nhttps://h.example/b.pt | b.pt\nX\n",
        "A=(\"https://h.example/a.pt|a.pt\" 'https://h.example/b.pt|b.pt')\nfor e in \"${A[@]}\"; do\n\
         u=\"${e%%|*}\"\n n=\"${e##*|}\"\n wget -O models/vae/$n $u\ndone\n",
        "A=(\"https://h.example/a.pt|a.pt\" 'https://h.example/b.pt|b.pt')\nfor e in \"${A[@]}\"; do\n\
         IFS='|' read -r u n <<< \"$e\"\n wget -O models/vae/$n $u\ndone\n",
        "f() { for u in \"${@:2}\"; do wget -P \"$1\" \"$u\"; done; }\n\
         f models/vae https://h.example/a.pt https://h.example/b.pt\n",
        "FROM x AS y\nARG D=models/vae\nRUN wget -P $D https://h.example/a.pt && \\\n  # a remark\n  \
         true\nADD https://h.example/b.pt /ComfyUI/models/vae/\n",
        "FROM x\nWORKDIR models/vae\nRUN --mount=type=cache,target=/c <<E\n  set -e\n\
         wget https://h.example/a.pt\nE\nRUN wget https://h.example/b.pt\n",
        "FROM x\nRUN (cd models/vae && wget https://h.example/a.pt)\n\
         RUN wget -P models/vae https://h.example/b.pt\n",
    ] {
        assert_eq!(files(text), expected, "{text}");
    }
}

#[test]
fn arrays_are_followed_by_name_key_and_reference() {
    for text in [
        "declare -A A=( [a.pt]=https://h.example/a [b.pt]=https://h.example/b )\n\
         for n in \"${!A[@]}\"; do wget -O \"models/vae/$n\" \"${A[$n]}\"; done\n",
        "declare -A A\nA[\"https://h.example/a\"]=\"a.pt\"\nA[\"https://h.example/b\"]=\"b.pt\"\n\
         for u in \"${!A[@]}\"; do curl -L \"$u\" -o \"models/vae/${A[$u]}\"; done\n",
        "U=(https://h.example/a https://h.example/b)\nN=(a.pt b.pt)\n\
         for i in \"${!U[@]}\"; do wget -O \"models/vae/${N[$i]}\" \"${U[i]}\" \"${U[$i]}\"; done\n",
        "get() { local -n list=$2; for e in \"${list[@]}\"; do wget -O \"$1/${e#*|}\" \"${e%|*}\"; done; }\n\
         VAES=('https://h.example/a|a.pt' 'https://h.example/b|b.pt')\nget models/vae VAES\n",
        "get() { local list=\"$1[@]\"; for e in \"${!list}\"; do IFS=, read -ra p <<< \"$e\"\n\
         wget \"${p[0]}\" -O models/vae/${p[1]}; done; }\n\
         VAES=(https://h.example/a,a.pt https://h.example/b,b.pt)\nget VAES\n",
        "B=https://h.example\nwhile read -r u n; do wget $u -O models/vae/$n; done <<EOF\n$B/a a.pt\n$B/b b.pt\nEOF\n",
    ] {
        let expected = ["https://h.example/a -> vae a.pt", "https://h.example/b -> vae b.pt"];
        assert_eq!(files(text), expected, "{text}");
    }
}

#[test]
fn a_directory_that_branches_choose_is_not_guessed() {
    for text in [
        "if [ $A ]; then\n  cd models/vae\nelse\n  cd models/loras\nfi\nwget https://h.example/a.pt\n",
        "case $A in\n  x) cd models/vae ;;\n  *) cd models/loras ;;\nesac\nwget https://h.example/a.pt\n",
    ] {
        assert_eq!(files(text), ["https://h.example/a.pt -> ? a.pt"], "{text}");
    }
    let text = "if [ ! -d models/vae ]; then\n  mkdir -p models/vae\nfi\nif cd models/vae; then\n  \
                wget https://h.example/a.pt\nfi\n";
    assert_eq!(files(text), ["https://h.example/a.pt -> vae a.pt"]);
}

#[test]
fn an_array_does_not_hide_other_unknown_downloads() {
    let text = "VAE_MODELS=(https://h.example/a.pt)\nprintf '%s' \"${VAE_MODELS[@]}\" | xargs wget\n\
                wget -P models/loras \"$BASE/b.pt\"\n";
    let list = list(text);
    assert_eq!(shown(&list), ["https://h.example/a.pt -> vae a.pt"]);
    let why: Vec<&UnusedReason> = list.unused.iter().map(|unused| &unused.why).collect();
    let (of_array, address) = (ScriptProblem::OfArray, ScriptProblem::Address);
    assert_eq!(why, [&UnusedReason::Script(of_array), &UnusedReason::Script(address)]);
}

#[test]
fn a_functions_unknown_call_is_told_beside_its_known_ones() {
    let text =
        "get() { wget -P models/vae \"$1\"; }\nget https://h.example/a.pt\nget \"$BASE/b.pt\"\nget \"$C\"\n";
    let list = list(text);
    assert_eq!(shown(&list), ["https://h.example/a.pt -> vae a.pt"]);
    let lines: Vec<String> = list.unused.iter().map(|unused| unused.place.to_string()).collect();
    assert_eq!(lines, ["script.sh:3", "script.sh:4"]);
}

#[test]
fn a_checksum_or_clone_that_is_not_used_is_told() {
    let text = "aria2c -d models/vae --checksum=sha-256=77 https://h.example/a.pt\n\
                git clone \"https://me:$HF_TOKEN@huggingface.co/o/r\"\n\
                git clone https://me:canary@huggingface.co/o/s\ngit clone https://huggingface.co/spaces/o/p\n";
    let list = list(text);
    assert_eq!(shown(&list), ["https://h.example/a.pt -> vae a.pt"]);
    let said = unused(&list);
    assert_eq!(said.len(), 3, "{said:#?}");
    let twice = "wget -P models/vae https://a:b@h.example/a.pt 'https://h.example/%zz\\0 b'\n";
    assert_eq!(read("s", twice).unwrap().unused.len(), 2, "{twice}");
    assert!(said[0].starts_with("script.sh:1: checksum: its hash is invalid"), "{said:#?}");
    assert!(said[1].starts_with("script.sh:2: o/r: it is a whole repository"), "{said:#?}");
    assert!(said[2].starts_with("script.sh:3: o/s: ") && !said[2].contains("canary"), "{said:#?}");
}

#[test]
fn a_quote_without_an_end_is_told_with_its_line() {
    for (line, text) in [
        (2, "wget -P models/vae https://h.example/a.pt\necho \"it\nwget https://h.example/b.pt\n"),
        (2, "wget -P models/vae https://h.example/a.pt\nif [[ -f x; then\nwget https://h.example/b.pt\nfi\n"),
        (2, "wget -P models/vae https://h.example/a.pt; cat <<X\nwget https://h.example/b.pt\n"),
    ] {
        let list = list(text);
        assert_eq!(shown(&list), ["https://h.example/a.pt -> vae a.pt"], "{text}");
        let said = unused(&list);
        assert!(said.len() == 1 && said[0].starts_with(&format!("script.sh:{line}: ")), "{text}: {said:#?}");
    }
}

#[test]
fn what_only_a_run_would_know_is_listed_once_by_line() {
    let text = "#!/bin/bash\nwget -P models/vae \"$BASE_URL/x.safetensors\"\n\
                for i in 1 2 3; do curl -L \"$(cat url)\" -o models/vae/y.pt; done\n\
                while read -r u; do wget \"$u\"; done < urls.txt\nwget -i list.txt -P models/vae\n\
                hf download o/whole --local-dir models/x\ngit clone https://huggingface.co/o/r\n\
                if [ $A ]; then D=vae; else D=loras; fi\nwget -P models/$D https://h.example/a.pt\n\
                cat urls.txt | xargs -n1 wget -P models/vae\n\
                python3 - <<'P'\nfrom huggingface_hub import hf_hub_download\nP\n\
                wget https://h.example/x-{1..3}.pt\nwget https://h.example/{x,y}.pt\n";
    let list = list(text);
    assert_eq!(shown(&list), ["https://h.example/a.pt -> ? a.pt"]);
    let said = unused(&list);
    let places = list.unused.iter().map(|unused| unused.place.to_string());
    let lines: Vec<String> = places.map(|place| place.replace("script.sh:", "")).collect();
    assert_eq!(lines, ["2", "3", "4", "5", "6", "7", "10", "11", "14", "15"]);
    assert!(said[4].contains("hf:OWNER/REPO/PATH"), "{said:#?}");
}

#[test]
fn a_script_without_a_download_is_one_line() {
    let long = "echo a line with a://thing and more\n".repeat(5000);
    for text in [
        "#!/bin/bash\napt-get install -y git\n",
        "#!/usr/bin/env bash\n# nothing\n",
        &format!("#!/bin/sh\n{long}"),
    ] {
        let error = read_text(text).unwrap_err();
        let expected = "script.sh: no download found in this script; add its files with `lock add SOURCE`";
        assert_eq!(error.to_string(), expected);
    }
    let list = list(
        "#!/bin/sh\ncurl -s -o /dev/null https://h.example/ready\nwget -O /tmp/a.deb \"$DEB_URL\"\n\
         curl -fsSL https://h.example/install.sh | sh\nwget https://h.example/tool.tar.gz\n",
    );
    assert!(list.models.is_empty());
    let said = unused(&list);
    assert!(said.len() == 1 && said[0].contains("tool.tar.gz: neither its name"), "{said:#?}");
}

#[test]
fn no_login_of_a_script_is_shown_or_imported() {
    let text = "T=canary\nwget --header=\"Authorization: Bearer canary\" \"https://h.example/a.pt\" -P models/vae\n\
                curl -H 'Authorization: Bearer canary' -L https://h.example/b.pt -o models/vae/b.pt\n\
                wget \"https://civitai.com/api/download/models/7?token=canary\" -P models/loras\n\
                wget \"https://civitai.com/api/download/models/8?type=Model&token=$TOKEN\" -P models/loras\n\
                wget \"https://h.example/c.pt?token=$T\" -P models/vae\n\
                wget \"https://h.example/d.pt?token=$UNSET\" -P models/vae\n\
                hf download o/r x.pt --token canary\n";
    let list = list(text);
    assert!(!format!("{list:?}").contains("canary"), "{list:#?}");
    let sources: Vec<String> = list.models.iter().map(|model| model.source.to_string()).collect();
    assert_eq!(
        sources,
        [
            "https://h.example/a.pt",
            "https://h.example/b.pt",
            "civitai:7",
            "civitai:8?type=Model",
            "https://h.example/d.pt",
            "hf:o/r/x.pt",
        ]
    );
    let options = list.unused.iter().filter(|unused| unused.why == UnusedReason::Option).count();
    assert_eq!((options, list.unused.len()), (1, 2), "{:#?}", list.unused);
}

#[test]
fn a_hostile_script_ends_soon_and_stays_small() {
    let begun = std::time::Instant::now();
    let nested = |open: &str, close: &str| {
        format!("#!/bin/sh\n{}wget https://h.example/a.pt{}\n", open.repeat(50_000), close.repeat(50_000))
    };
    let doubling =
        (0..60).map(|at| format!("A{}=\"$A{at}$A{at}$A{at}$A{at}\"\n", at + 1)).collect::<Vec<_>>().concat();
    let calls =
        (0..30).map(|at| format!("f{at}() {{ f{0}; f{0}; f{0}; }}\n", at + 1)).collect::<Vec<_>>().concat();
    for text in [
        nested("( ", " )"),
        nested("if true; then ", " fi"),
        nested("$(", ")"),
        nested("\"${a:-", "}\""),
        nested("<< ", ""),
        nested("f() { ", " }"),
        format!("#!/bin/sh\nA0=https://h.example/\n{doubling}wget $A60\n"),
        format!("#!/bin/sh\n{calls}f30() {{ wget https://h.example/a.pt -P models/vae; }}\nf0\n"),
        format!(
            "#!/bin/sh\nA=({})\nfor a in ${{A[@]}}; do for b in ${{A[@]}}; do for c in ${{A[@]}}; do wget $a$b$c; done; done; done\n",
            "x ".repeat(5000)
        ),
        format!(
            "#!/bin/sh\nfor i in {}; do A=(\"${{A[@]}}\" \"${{A[@]}}\" x); wget \"${{A[@]}}\"; done\n",
            "1 ".repeat(60)
        ),
        "#!/bin/sh\nf() { f \"$@\" \"$@\"; wget \"$@\"; }\nf https://h.example/a.pt\n".to_owned(),
        format!("#!/bin/sh\n{}", "a ".repeat(500_000)),
        format!("#!/bin/sh\nxargs{}\n", " comfy".repeat(150_000)),
        format!("#!/bin/sh\n{}\n", "<<a\n".repeat(250_000)),
        format!("#!/bin/sh\n{}\n", "\"$(".repeat(300_000)),
        format!("#!/bin/sh\nwget {}\n", "$(basename ".repeat(90_000)),
        format!("#!/bin/sh\n{}\n", "A[x]=https://h.example/a.pt\n".repeat(30_000)),
        format!("#!/bin/sh\n{}", "a ".repeat(5_000_000)),
        "#!/bin/sh\nwget \"unclosed 'quotes $( ${x:-\n<<EOF\n".to_owned(),
    ] {
        let _ = read_text(&text);
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}
