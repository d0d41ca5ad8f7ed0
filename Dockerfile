# syntax=docker/dockerfile:1
# check=skip=SecretsUsedInArgOrEnv
# (HF_TOKEN_PATH below is a place, and no secret.)
#
# Models in image layers, or models at container start: build → models → runtime-baked, and runtime without models.
#
#     docker build --target runtime-baked --tag provision:runtime-baked .
#     docker build --target runtime --tag provision:runtime .
#
# `cargo xtask image` does the same, and looks first whether the lock and this file fit together.

# The image that has cargo and a C compiler.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
# What the result is built on: your ComfyUI image. Its ENTRYPOINT and CMD stay as they are.
ARG RUNTIME_IMAGE=debian:bookworm-slim


FROM ${RUST_IMAGE} AS build
WORKDIR /src
# Not rust-toolchain.toml: the image is the toolchain, and rustup would fetch what only a developer needs.
COPY Cargo.toml Cargo.lock ./
COPY provision/Cargo.toml provision/
COPY provision/src provision/src
COPY provision/core provision/core
COPY provision/http provision/http
COPY provision/disk provision/disk
COPY provision/engine provision/engine
COPY provision/lock provision/lock
# Cargo wants the manifest of each member, and something to build in each. What these really have changes often and is
# no part of the binary.
COPY provision/testbed/Cargo.toml provision/testbed/
COPY xtask/Cargo.toml xtask/
COPY lab/Cargo.toml lab/
RUN mkdir provision/testbed/src xtask/src lab/src \
    && touch provision/testbed/src/lib.rs xtask/src/main.rs lab/src/main.rs
# One place for every image, whatever it has set: below it the crates are kept from build to build.
ENV CARGO_HOME=/var/cache/cargo
# - Static, so that the binary runs in any image, `scratch` included. `cargo xtask dist` does the same and checks it; it
#   would have to be compiled first.
# - Sources get the time of now: cargo compares times, and the target directory outlives a switch to an older checkout.
#   Dependencies are not touched and stay built.
# - What lies in a cache mount is in no layer, so the result is copied out of it.
RUN --mount=type=cache,id=provision-cargo,target=/var/cache/cargo \
    --mount=type=cache,id=provision-target,target=/src/target,sharing=locked \
    find provision -exec touch {} + \
    && target="$(rustc --print host-tuple)" \
    && RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs' \
       cargo build --locked --profile dist --package provision --target "$target" \
    && install -D "target/$target/dist/provision" /out/provision


# The fetcher and the lock are all that goes in, and BuildKit compares them by content: a change elsewhere leaves the
# models alone.
FROM scratch AS models
ARG MODELS_LOCK=models.lock
ARG MODELS_DIR=/opt/models
COPY --from=build /out/provision /provision
COPY ${MODELS_LOCK} /models.lock
# hadolint ignore=DL3064
ENV PROVISION_LOCK=/models.lock \
    PROVISION_DEST=${MODELS_DIR} \
    PROVISION_CACHE=/var/cache/provision \
    PROVISION_LAYERS=/layers \
    PROVISION_PROGRESS=plain \
    HF_TOKEN_PATH=/run/secrets/hf_token
# The cache mount has what is fetched, whole or in part: a build that was interrupted goes on, and one with another
# fetcher or another lock asks only for what is new. The token is a file for as long as this line runs.
RUN --mount=type=cache,id=provision-models,target=/var/cache/provision,sharing=locked \
    --mount=type=secret,id=hf_token \
    ["/provision", "fetch"]


# No models: they come to the volume when the container starts.
FROM ${RUNTIME_IMAGE} AS runtime
ARG MODELS_LOCK=models.lock
ARG MODELS_DIR=/opt/models
COPY --from=build /out/provision /usr/local/bin/provision
COPY provision/container/pre_start.sh provision/container/download_qwen_models.sh /
COPY ${MODELS_LOCK} /opt/provision/models.lock
ENV PROVISION_LOCK=/opt/provision/models.lock \
    PROVISION_DEST=/workspace/ComfyUI/models \
    PROVISION_BAKED=${MODELS_DIR}


# A layer for each model directory, the largest and least-changing first: a push or a pull after a change moves only
# the layers that changed. The tree below /layers/NAME is copied onto the root: so the layer has the fixed modes and
# times of that tree, parents included, and the same lock gives the same digest. `--link` makes the layers independent
# of those below: a new base image leaves them alone.
FROM runtime AS runtime-baked
COPY --link --from=models /layers/diffusion_models/ /
COPY --link --from=models /layers/text_encoders/ /
COPY --link --from=models /layers/loras/ /
COPY --link --from=models /layers/vae/ /
