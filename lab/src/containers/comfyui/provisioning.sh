#!/bin/bash

CONTROLNET_MODELS=(
    "https://huggingface.co/me/comfyui/resolve/main/control.safetensors"
)

function provisioning_start() {
    provisioning_get_files "/workspace/ComfyUI/models/controlnet" "${CONTROLNET_MODELS[@]}"
}

function provisioning_get_files() {
    dir="$1"
    shift
    mkdir -p "$dir"
    for url in "$@"; do
        wget -qnc --content-disposition --header="Authorization: Bearer $HF_TOKEN" -P "$dir" "$url"
    done
}

provisioning_start
