#!/bin/sh
# Completes the models in a running container, on demand:
#
#     docker exec -it CONTAINER /download_qwen_models.sh
set -eu

usage() {
    cat << 'EOF'
Installs the models of the lock into ComfyUI's directory. Correct files stay, the others are copied or downloaded.

Usage: /download_qwen_models.sh [--force] [MODEL]...

  MODEL      only these: a path, a file stem, or a glob over paths
  --force    download every file again
  -h, --help

With the marker (.qwen_models_downloaded in the models' directory), files are compared by size and time. Remove the
marker to verify every file by its digest; then only wrong and missing files are downloaded.

Paths: PROVISION_LOCK, PROVISION_DEST, PROVISION_BAKED. More options: provision ensure --help
EOF
}

force=
# The loop takes each argument from the front and appends models at the back.
for argument; do
    shift
    case $argument in
        --force) force=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*)
            echo "download_qwen_models.sh: unknown option $argument; see --help" >&2
            exit 2
            ;;
        *) set -- "$@" "$argument" ;;
    esac
done

export PROVISION_LOCK="${PROVISION_LOCK:-/opt/provision/models.lock}"
export PROVISION_DEST="${PROVISION_DEST:-/workspace/ComfyUI/models}"
export PROVISION_BAKED="${PROVISION_BAKED:-/opt/models}"
exec provision ensure ${force:+--force} -- "$@"
