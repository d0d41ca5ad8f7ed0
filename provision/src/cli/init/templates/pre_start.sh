#!/bin/sh
# Completes the models, then becomes the command that it is given: `/pre_start.sh python main.py`. By `provision init`.
# It stops with the container, and does not go on without the models. A complete volume costs milliseconds.
set -eu
trap 'kill "$!"; wait "$!"' TERM INT
provision ensure --lock "${PROVISION_LOCK:-/opt/provision/models.lock}" --dest "${PROVISION_DEST:-/workspace/ComfyUI/models}" &
wait "$!"
exec "$@"
