//! The shipped Dockerfile, adapted to the engine of a check.
//!
//! An engine without a registry has only the builder's own frontend, which supports neither a `# syntax=` line nor
//! `COPY --link`. The models' cache mount gets its own name: it starts empty, and the mount of real builds is
//! untouched.

use anyhow::{Context as _, Result, ensure};

/// The models' cache mount of the checks.
pub(super) const CACHE: &str = "provision-models-check";

/// The first line after the stages that build the binary.
const MODELS_STAGE: &str = "FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS models";

/// The stage that compiles for the image's platform, in a text of [`with_binary_of`].
const BUILD_STAGE: &str = "FROM native AS build\n";

/// The flag of a stage that runs on the builder's platform.
const NATIVE: &str = "--platform=$BUILDPLATFORM ";

/// The differences between the shipped text and [`adapted`], for the log.
pub(super) const CHANGES: &str = "the Dockerfile is the shipped one without `# syntax=` and `--link`, with its own cache mount for the models";

/// The shipped text, adapted.
pub(super) fn adapted(shipped: &str) -> Result<String> {
    let mount = "id=provision-models,";
    ensure!(shipped.contains(mount), "the Dockerfile has no cache mount with {mount}");
    let lines = shipped.split_inclusive('\n').filter(|line| !line.starts_with("# syntax="));
    let text = lines.collect::<String>().replace("COPY --link ", "COPY ");
    Ok(text.replace(mount, &format!("id={CACHE},")))
}

/// The adapted text with another URL for the Hub.
pub(super) fn with_hub(text: &str, url: &str) -> String {
    text.replace(MODELS_STAGE, &format!("{MODELS_STAGE}\nENV HF_ENDPOINT={url}"))
}

/// The adapted text with the binary of the image `built` in place of the stages that compile one.
pub(super) fn with_binary_of(adapted: &str, built: &str) -> Result<String> {
    let missing = || format!("the Dockerfile has no line {MODELS_STAGE}");
    let (before, rest) = adapted.split_once(MODELS_STAGE).with_context(missing)?;
    let (arguments, _) = before.split_once("\nFROM ").with_context(missing)?;
    Ok(format!("{arguments}\nFROM {NATIVE}{built} AS native\n{BUILD_STAGE}{MODELS_STAGE}{rest}"))
}

/// A text of [`with_binary_of`] with the image `built` as the stage that compiles for the image's platform.
pub(super) fn with_target_binary_of(text: &str, built: &str) -> Result<String> {
    ensure!(text.contains(BUILD_STAGE), "the Dockerfile has no line {BUILD_STAGE}");
    Ok(text.replace(BUILD_STAGE, &format!("FROM {NATIVE}{built} AS build\n")))
}
