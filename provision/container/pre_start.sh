#!/bin/sh
# Puts the models in place before ComfyUI starts. A template's start script sources it, or runs it:
#
#     . /pre_start.sh
#
# A complete destination costs milliseconds. Else what the image has is copied, and what is still missing is fetched.
#
#     PROVISION_LOCK      what has to be there            [/opt/provision/models.lock]
#     PROVISION_DEST      where ComfyUI looks for it      [/workspace/ComfyUI/models]
#     PROVISION_BAKED     what the image brought along    [/opt/models]
#     PROVISION_REQUIRED  1: no start without the models; 0: a warning, and the start goes on    [1]
#
# Every other option of `provision ensure` has its variable, too: PROVISION_OFFLINE, PROVISION_LIMIT_RATE, …
# Sourced or run, it ends the start by `exit` with the code of `provision`. It sets no shell option and exports
# nothing. While it works the traps for HUP, INT and TERM are its own: set yours after it.

provision_start() {
    # In the background, with traps: the first process of a container is not ended by a signal that it does not handle,
    # and a shell that waits for a foreground process handles none. `docker stop` would take ten seconds and end in
    # SIGKILL.
    # The traps come first: a signal that comes before there is a child is kept for it, and one that comes when the child
    # is done ends the start all the same.
    provision_child=
    provision_told=
    trap 'provision_told=129; [ -z "$provision_child" ] || kill -TERM "$provision_child" 2> /dev/null || :' HUP
    trap 'provision_told=143; [ -z "$provision_child" ] || kill -TERM "$provision_child" 2> /dev/null || :' TERM
    # Ctrl-C reaches both by itself.
    trap provision_told=130 INT
    PROVISION_LOCK=${PROVISION_LOCK:-/opt/provision/models.lock} \
        PROVISION_DEST=${PROVISION_DEST:-/workspace/ComfyUI/models} \
        PROVISION_BAKED=${PROVISION_BAKED:-/opt/models} \
        provision ensure &
    provision_child=$!
    if [ -n "$provision_told" ]; then
        kill -TERM "$provision_child" 2> /dev/null || :
    fi
    provision_code=0
    wait "$provision_child" || provision_code=$?
    # A trapped signal ends `wait` early.
    while kill -0 "$provision_child" 2> /dev/null; do
        provision_code=0
        wait "$provision_child" || provision_code=$?
    done
    trap - HUP INT TERM
    return "$provision_code"
}

provision_explain() { # EXIT CODE
    echo "pre_start: the models in ${PROVISION_DEST:-/workspace/ComfyUI/models} are INCOMPLETE (provision ended with $1)"
    case $1 in
        2 | 3) echo "pre_start: the message above says what to correct" ;;
        4) echo "pre_start: no source gave what is missing: check the network, or use an image that has the models" ;;
        5) echo "pre_start: the sources have other bytes than the lock: update the lock, or name a mirror in it" ;;
        6) echo "pre_start: pass a token: mount a file and name it in HF_TOKEN_PATH, or docker run --env HF_TOKEN …" ;;
        7) echo "pre_start: check the volume: its space, and who may write to it" ;;
        8) echo "pre_start: another container fills this volume: start this one again when that is done" ;;
        127) echo "pre_start: the program provision is not in this image" ;;
    esac
    echo "pre_start: what is there stays: the next start goes on from it, and so does /download_qwen_models.sh"
}

if provision_start && [ -z "$provision_told" ]; then
    :
elif [ -n "$provision_told" ]; then
    # Whoever stops a container does not want it to go on, with or without its models.
    echo "pre_start: told to stop; what is there stays, and the next start goes on from it" >&2
    exit "$provision_told"
else
    provision_explain "$provision_code" >&2
    if [ "${PROVISION_REQUIRED:-1}" = 0 ]; then
        echo "pre_start: starting without them (PROVISION_REQUIRED=0)" >&2
    else
        echo "pre_start: not starting; PROVISION_REQUIRED=0 would start all the same" >&2
        exit "$provision_code"
    fi
fi
