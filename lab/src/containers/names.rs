//! Names that several parts of the checks use: images, volumes, paths, and the secret.

pub(super) const BAKED: &str = "provision:runtime-baked";
pub(super) const RUNTIME: &str = "provision:runtime";
/// The Dockerfile's `build` stage, which has the binary.
pub(super) const COMPILED: &str = "provision-check:build";
/// A baked image whose models needed the token.
pub(super) const WITH_TOKEN: &str = "provision-check:token";
/// The program alone, under both of its names.
pub(super) const PROGRAM: &str = concat!("provision:", env!("CARGO_PKG_VERSION"));
const PROGRAM_LATEST: &str = "provision:latest";
/// The images that the check of a repository of one's own, and the documents about one, build.
pub(super) const OWN: &str = "provision-check:own";
pub(super) const OWN_PROGRAM: &str = "provision-check:arm64";
const OWN_DOCUMENTED: &str = "comfyui-models";
/// Images for arm64, the program in them, and their base.
pub(super) const COMPILED_ARM: &str = "provision-check:build-arm64";
pub(super) const PROGRAM_ARM: &str = "provision-check:program-arm64";
pub(super) const BAKED_ARM: &str = "provision-check:baked-arm64";
pub(super) const ARM_BASE: &str = "provision-check:base-arm64";
pub(super) const IMAGES: [&str; 13] = [
    BAKED,
    RUNTIME,
    COMPILED,
    WITH_TOKEN,
    PROGRAM,
    PROGRAM_LATEST,
    OWN,
    OWN_PROGRAM,
    OWN_DOCUMENTED,
    COMPILED_ARM,
    PROGRAM_ARM,
    BAKED_ARM,
    ARM_BASE,
];

/// The containers and the volumes of the documented commands.
pub(super) const DOCS_CONTAINERS: [&str; 1] = ["comfy"];
pub(super) const DOCS_VOLUMES: [&str; 2] = ["comfy-baked", "comfy-models"];

/// The directory from which `ComfyUI` reads its models.
pub(super) const DESTINATION: &str = "/workspace/ComfyUI/models";
/// The directory of the models in the baked image.
pub(super) const MODELS: &str = "/opt/models";
/// The marker's name in the lock of the checks and in the documented commands.
pub(super) const MARKER: &str = ".qwen_models_downloaded";

/// The Hub's token. Its text must occur in no image, log or request to another host.
pub(super) const CANARY: &str = "hf_canary_0123456789abcdefghijklmnop";
