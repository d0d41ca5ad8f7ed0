//! Names that several checks use: images, paths in them, and the secret.

pub(super) const BAKED: &str = "provision:runtime-baked";
pub(super) const RUNTIME: &str = "provision:runtime";
/// Has the binary.
pub(super) const COMPILED: &str = "provision-check:build";
/// Was built with models that want the token.
pub(super) const WITH_TOKEN: &str = "provision-check:token";
/// Has nothing but the binary.
pub(super) const SCRATCH: &str = "provision-check:scratch";
/// Every name that an image gets here.
pub(super) const IMAGES: [&str; 5] = [BAKED, RUNTIME, COMPILED, WITH_TOKEN, SCRATCH];

/// Where `ComfyUI` has its models in the images.
pub(super) const DESTINATION: &str = "/workspace/ComfyUI/models";
/// Where the models are in the baked image.
pub(super) const MODELS: &str = "/opt/models";

/// The token that must be nowhere.
pub(super) const CANARY: &str = "hf_canary_0123456789abcdefghijklmnop";

/// The names that the README's commands use.
pub(super) const CONTAINER: &str = "comfy";
pub(super) const VOLUMES: [&str; 2] = ["comfy-baked", "comfy-models"];
