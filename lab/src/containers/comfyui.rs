//! The files of docs/comfyui.md: what people who run `ComfyUI` have.

use anyhow::Result;
use camino::Utf8Path;

const FILES: [(&str, &str); 8] = [
    ("ComfyUI/extra_model_paths.yaml", include_str!("comfyui/ComfyUI/extra_model_paths.yaml")),
    ("loras.txt", include_str!("comfyui/loras.txt")),
    ("model-list.json", include_str!("comfyui/model-list.json")),
    ("notes.json", include_str!("comfyui/notes.json")),
    ("provisioning.sh", include_str!("comfyui/provisioning.sh")),
    ("request.json", include_str!("comfyui/request.json")),
    ("workflows/text-to-image.json", WORKFLOW),
    ("workflows/upscale.json", include_str!("comfyui/workflows/upscale.json")),
];
const WORKFLOW: &str = include_str!("comfyui/workflows/text-to-image.json");

/// Writes them into `folder`, and a picture of a workflow.
pub(super) fn write(folder: &Utf8Path) -> Result<()> {
    for (path, text) in FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, text)?;
    }
    Ok(std::fs::write(folder.join("picture.png"), picture(WORKFLOW))?)
}

/// A PNG of one grey pixel, with the text chunk that `ComfyUI` writes (PNG specification, sections 5.3 and 11.3.3.2).
fn picture(workflow: &str) -> Vec<u8> {
    /// 1 x 1, eight bits of grey.
    const HEADER: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0];
    /// zlib's form of a filter byte and a pixel, both zero.
    const PIXEL: &[u8] = &[0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1];
    let text = [b"workflow\0", workflow.as_bytes()].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [("IHDR", HEADER), ("tEXt", &text), ("IDAT", PIXEL), ("IEND", &[])] {
        let chunk = [kind.as_bytes(), data].concat();
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(&chunk);
        png.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    png
}
