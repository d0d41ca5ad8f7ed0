//! Folders of the files that `ComfyUI`'s loaders read. A workflow names a file below its loader's folder.
//!
//! Only `ComfyUI`'s own loaders and the customary names of inputs count. A file in a wrong folder is not found, so a
//! loader that is not known has no folder.

/// Loaders whose files are all in one folder.
const CLASSES: [(&str, &str); 37] = [
    ("AudioEncoderLoader", "audio_encoders"),
    ("CLIPLoader", "text_encoders"),
    ("CLIPLoaderGGUF", "text_encoders"),
    ("CLIPVisionLoader", "clip_vision"),
    ("CheckpointLoader", "checkpoints"),
    ("CheckpointLoaderSimple", "checkpoints"),
    ("ControlNetLoader", "controlnet"),
    ("DiffControlNetLoader", "controlnet"),
    ("DualCLIPLoader", "text_encoders"),
    ("DualCLIPLoaderGGUF", "text_encoders"),
    ("FrameInterpolationModelLoader", "frame_interpolation"),
    ("GLIGENLoader", "gligen"),
    ("HypernetworkLoader", "hypernetworks"),
    ("ImageOnlyCheckpointLoader", "checkpoints"),
    ("LTXVAudioVAELoader", "checkpoints"),
    ("LatentUpscaleModelLoader", "latent_upscale_models"),
    ("LoadBackgroundRemovalModel", "background_removal"),
    ("LoadDA3Model", "geometry_estimation"),
    ("LoadMoGeModel", "geometry_estimation"),
    ("Lora Loader Stack (rgthree)", "loras"),
    ("LoraLoader", "loras"),
    ("LoraLoaderModelOnly", "loras"),
    ("ModelPatchLoader", "model_patches"),
    ("OpticalFlowLoader", "optical_flow"),
    ("PhotoMakerLoader", "photomaker"),
    ("Power Lora Loader (rgthree)", "loras"),
    ("QuadrupleCLIPLoader", "text_encoders"),
    ("QuadrupleCLIPLoaderGGUF", "text_encoders"),
    ("StyleModelLoader", "style_models"),
    ("TripleCLIPLoader", "text_encoders"),
    ("TripleCLIPLoaderGGUF", "text_encoders"),
    ("UNETLoader", "diffusion_models"),
    ("UnetLoaderGGUF", "diffusion_models"),
    ("UnetLoaderGGUFAdvanced", "diffusion_models"),
    ("UpscaleModelLoader", "upscale_models"),
    ("VAELoader", "vae"),
    ("unCLIPCheckpointLoader", "checkpoints"),
];

/// Inputs of one meaning in all loaders. A number may follow (`clip_name2`).
const INPUTS: [(&str, &str); 12] = [
    ("audio_encoder_name", "audio_encoders"),
    ("ckpt_name", "checkpoints"),
    ("control_net_name", "controlnet"),
    ("controlnet_name", "controlnet"),
    ("gligen_name", "gligen"),
    ("hypernetwork_name", "hypernetworks"),
    ("lora", "loras"),
    ("lora_name", "loras"),
    ("style_model_name", "style_models"),
    ("text_encoder", "text_encoders"),
    ("unet_name", "diffusion_models"),
    ("vae_name", "vae"),
];

/// The folder of the files that a node of this class names in this input.
pub(super) fn folder(class: &str, input: Option<&str>) -> Option<&'static str> {
    // Variants have a suffix: `LoraLoader|pysssss`.
    let class = class.split('|').next().unwrap_or(class);
    let input =
        || input.map(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_'));
    let of = |table: &[(&str, &'static str)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, folder)| *folder)
    };
    of(&CLASSES, class).or_else(|| of(&INPUTS, input()?))
}

/// `ComfyUI`'s name of today for a folder; it searches both.
pub(super) fn today(folder: &str) -> &str {
    match folder {
        "clip" => "text_encoders",
        "unet" => "diffusion_models",
        "t2i_adapter" => "controlnet",
        folder => folder,
    }
}
