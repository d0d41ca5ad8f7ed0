# `docker buildx bake` builds the three images of the Dockerfile, and `docker buildx bake runtime` one of them.
#
# The environment sets the variables: TAG=v1 MODELS_LOCK=other.lock docker buildx bake
# For both platforms, pushed to a registry: IMAGE=registry/name PLATFORMS=linux/amd64,linux/arm64 docker buildx bake --push

variable "IMAGE" {
  default = "provision"
}
# The first part of the image's tag: v1-runtime-baked.
variable "TAG" {
  default = ""
}
# The name of the target provision in a registry, which `provision init` of that image writes.
variable "PROVISION_IMAGE" {
  default = ""
}
variable "RUST_IMAGE" {
  default = "rust:1.95-slim-bookworm"
}
variable "RUNTIME_IMAGE" {
  default = "debian:bookworm-slim"
}
variable "MODELS_LOCK" {
  default = "models.lock"
}
variable "MODELS_DIR" {
  default = "/opt/models"
}

# A list with commas; empty is the builder's own. Only a builder with a store for several platforms keeps several.
variable "PLATFORMS" {
  default = ""
}

group "default" {
  targets = ["provision", "runtime", "runtime-baked"]
}

target "_common" {
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = compact(split(",", PLATFORMS))
  args = {
    RUST_IMAGE    = RUST_IMAGE
    RUNTIME_IMAGE = RUNTIME_IMAGE
    MODELS_LOCK   = MODELS_LOCK
    MODELS_DIR    = MODELS_DIR
  }
}

target "provision" {
  inherits = ["_common"]
  target   = "provision"
  args     = { PROVISION_IMAGE = PROVISION_IMAGE }
  tags     = [TAG == "" ? "${IMAGE}:latest" : "${IMAGE}:${TAG}"]
}

target "runtime" {
  inherits = ["_common"]
  target   = "runtime"
  tags     = [TAG == "" ? "${IMAGE}:runtime" : "${IMAGE}:${TAG}-runtime"]
}

target "runtime-baked" {
  inherits = ["_common"]
  target   = "runtime-baked"
  tags     = [TAG == "" ? "${IMAGE}:runtime-baked" : "${IMAGE}:${TAG}-runtime-baked"]
  # HF_TOKEN, if it is set. It is mounted while models are fetched, and is in no layer.
  secret = ["type=env,id=hf_token,env=HF_TOKEN"]
}
