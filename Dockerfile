# syntax=docker/dockerfile:1
# check=skip=SecretsUsedInArgOrEnv
# (HF_TOKEN_PATH below is a path, not a secret.)
#
# Three images: provision is the program alone, runtime-baked has the models in its layers, runtime downloads them at
# container start. Stages: native → build → provision, native → models → runtime-baked, and build → runtime.
#
#     docker build --target provision --tag provision .
#     docker build --target runtime-baked --tag provision:runtime-baked .
#     docker build --target runtime --tag provision:runtime .
#
# Each is built for linux/amd64 and linux/arm64, on either. `cargo xtask image` does the same, and checks first that the
# lock and this file agree.

# The image with cargo and a C compiler.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
# The base of the result: your ComfyUI image. Its ENTRYPOINT and CMD stay as they are.
ARG RUNTIME_IMAGE=debian:bookworm-slim


# The program for the machine that builds: the models' stage runs it.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS native
WORKDIR /src
# Without rust-toolchain.toml: the image is the toolchain, and rustup would download parts that only a developer needs.
COPY Cargo.toml Cargo.lock ./
COPY provision provision
# Cargo needs a manifest and a source file for each member of the workspace. These two are no part of the binary.
COPY xtask/Cargo.toml xtask/
COPY lab/Cargo.toml lab/
RUN mkdir xtask/src lab/src && touch xtask/src/main.rs lab/src/main.rs
# The same path in every base image. Its cache mount below keeps the crates from build to build.
ENV CARGO_HOME=/var/cache/cargo
# The binary is static, so that it runs in any image, `scratch` included. A cache mount is in no layer, so the script
# copies the binary out of it.
RUN --mount=type=cache,id=provision-cargo,target=/var/cache/cargo \
    --mount=type=cache,id=provision-target,target=/src/target,sharing=locked \
    sh provision/container/compile.sh


# The program for the image's platform, cross-compiled if that is another one.
FROM native AS build
ARG BUILDARCH
ARG TARGETARCH
RUN --mount=type=cache,id=provision-cargo,target=/var/cache/cargo \
    --mount=type=cache,id=provision-target,target=/src/target,sharing=locked \
    [ "$TARGETARCH" = "$BUILDARCH" ] || sh provision/container/compile.sh "$TARGETARCH"


# The binary and the lock with its piece lists are the only inputs of this project, and BuildKit compares them by content:
# no other change downloads models. The lock pins the lists, and no layer has one. Not FROM scratch, which always has the image's platform: a builder would emulate it here. For all
# platforms this stage is the same, so it runs once.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS models
ARG MODELS_LOCK=models.lock
# The lists beside the lock. A pattern, since it may match nothing: a lock needs no lists.
ARG MODELS_PIECES=models.piece[s]
ARG MODELS_DIR=/opt/models
COPY --from=native /out/provision /provision
COPY ${MODELS_LOCK} /models.lock
COPY ${MODELS_PIECES} /models.pieces/
# hadolint ignore=DL3064
ENV PROVISION_LOCK=/models.lock \
    PROVISION_DEST=${MODELS_DIR} \
    PROVISION_CACHE=/var/cache/provision \
    PROVISION_LAYERS=/layers \
    PROVISION_PROGRESS=plain \
    HF_TOKEN_PATH=/run/secrets/hf_token
# The cache mount keeps downloads, also partial ones: an interrupted build resumes, and a build with another binary or
# another lock downloads only new files. The token is a file while this line runs, and is in no layer.
RUN --mount=type=cache,id=provision-models,target=/var/cache/provision,sharing=locked \
    --mount=type=secret,id=hf_token \
    ["/provision", "fetch"]


# The program and the certificates, for `COPY --from=`, as an init container, or in place of an installed program.
# No user: a container may run as any. As root the program becomes the owner of its working directory, so that files which
# it writes into a mounted folder belong to the folder's owner.
FROM scratch AS provision
LABEL org.opencontainers.image.title="provision" \
      org.opencontainers.image.description="Puts model files where a container needs them: fast, verified, and never half there" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/provision /provision
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# The name of this image in a registry, if it has one: `provision init` writes it. An empty one counts as unset.
ARG PROVISION_IMAGE
ENV PROVISION_IMAGE=${PROVISION_IMAGE} \
    PROVISION_AS_OWNER=1
ENTRYPOINT ["/provision"]


# No models: the container downloads them to its volume when it starts.
FROM ${RUNTIME_IMAGE} AS runtime
ARG MODELS_LOCK=models.lock
ARG MODELS_PIECES=models.piece[s]
ARG MODELS_DIR=/opt/models
COPY --from=build /out/provision /usr/local/bin/provision
COPY provision/container/pre_start.sh provision/container/download_qwen_models.sh /
COPY ${MODELS_LOCK} /opt/provision/models.lock
COPY ${MODELS_PIECES} /opt/provision/models.pieces/
ENV PROVISION_LOCK=/opt/provision/models.lock \
    PROVISION_DEST=/workspace/ComfyUI/models \
    PROVISION_BAKED=${MODELS_DIR}


# A layer for each model directory, the largest and most stable first: a push or a pull transfers only changed layers.
# Each line copies the tree below /layers/NAME onto the root. So the layer has the fixed modes and times of that tree,
# parents included, and the same lock gives the same digest. With `--link` a layer does not depend on those below it:
# a new base image keeps them.
FROM runtime AS runtime-baked
COPY --link --from=models /layers/diffusion_models/ /
COPY --link --from=models /layers/text_encoders/ /
COPY --link --from=models /layers/loras/ /
COPY --link --from=models /layers/vae/ /
