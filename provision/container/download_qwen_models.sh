#!/bin/sh
# Fetches the models by hand, in a running container:
#
#     docker exec -it CONTAINER /download_qwen_models.sh
set -eu

usage() {
    cat << 'EOF'
Puts the models of the lock into ComfyUI's directory: what is right stays, the rest is copied or fetched.

Usage: /download_qwen_models.sh [--force] [MODEL]...

  MODEL      only these: a path, a file stem, or a glob over paths
  --force    fetch everything again, whatever is there
  -h, --help

While the marker (.qwen_models_downloaded in the models' directory) is there, files are compared by size and time.
Remove it, and every file is checked by its digest; only what is wrong is fetched.

Places: PROVISION_LOCK, PROVISION_DEST, PROVISION_BAKED. More options: provision ensure --help
EOF
}

force=
# Each argument leaves at the front; a model comes in again at the back.
for argument; do
    shift
    case $argument in
        --force) force=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*)
            echo "download_qwen_models.sh: there is no option $argument; see --help" >&2
            exit 2
            ;;
        *) set -- "$@" "$argument" ;;
    esac
done

export PROVISION_LOCK="${PROVISION_LOCK:-/opt/provision/models.lock}"
export PROVISION_DEST="${PROVISION_DEST:-/workspace/ComfyUI/models}"
export PROVISION_BAKED="${PROVISION_BAKED:-/opt/models}"
exec provision ensure ${force:+--force} -- "$@"
