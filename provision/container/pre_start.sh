#!/bin/sh
# Completes the models before ComfyUI starts. A template's start script sources or runs it:
#
#     . /pre_start.sh
#
# A complete destination costs milliseconds. Otherwise the models of the image are copied, and the others downloaded.
#
#     PROVISION_LOCK      the lock                                        [/opt/provision/models.lock]
#     PROVISION_DEST      the directory from which ComfyUI reads models   [/workspace/ComfyUI/models]
#     PROVISION_BAKED     the directory of the image's models             [/opt/models]
#     PROVISION_REQUIRED  1: no start without the models; 0: a warning, and the start goes on    [1]
#
# Every other option of `provision ensure` has its variable, too: PROVISION_OFFLINE, PROVISION_LIMIT_RATE, …
# After a failure the script ends the start by `exit` with the code of `provision`, also when it is sourced. It sets no
# shell option and exports nothing. It replaces the traps for HUP, INT and TERM and removes them at its end: set your
# traps after it.

provision_start() {
    # The kernel ignores a signal to the first process of a container unless that process handles it, and a shell
    # handles none while it waits for a foreground process. With a background process and traps, `docker stop` ends the
    # start at once, and not after ten seconds by SIGKILL.
    # The traps come first. A signal before the start of the child is passed on to it, and a signal at its end still
    # ends the start.
    provision_child=
    provision_signal=
    trap 'provision_signal=129; [ -z "$provision_child" ] || kill -TERM "$provision_child" 2> /dev/null || :' HUP
    trap 'provision_signal=143; [ -z "$provision_child" ] || kill -TERM "$provision_child" 2> /dev/null || :' TERM
    # A terminal sends Ctrl-C to both processes, but a shell starts a background process with SIGINT ignored.
    trap 'provision_signal=130; [ -z "$provision_child" ] || kill -TERM "$provision_child" 2> /dev/null || :' INT
    PROVISION_LOCK=${PROVISION_LOCK:-/opt/provision/models.lock} \
        PROVISION_DEST=${PROVISION_DEST:-/workspace/ComfyUI/models} \
        PROVISION_BAKED=${PROVISION_BAKED:-/opt/models} \
        provision ensure &
    provision_child=$!
    if [ -n "$provision_signal" ]; then
        kill -TERM "$provision_child" 2> /dev/null || :
    fi
    provision_code=0
    wait "$provision_child" || provision_code=$?
    # A trapped signal ends `wait` before the child ends.
    while kill -0 "$provision_child" 2> /dev/null; do
        provision_code=0
        wait "$provision_child" || provision_code=$?
    done
    trap - HUP INT TERM
    return "$provision_code"
}

provision_explain() { # EXIT CODE
    echo "pre_start: the models in ${PROVISION_DEST:-/workspace/ComfyUI/models} are INCOMPLETE (provision exited with $1)"
    case $1 in
        2 | 3) echo "pre_start: correct what the message above names" ;;
        4) echo "pre_start: every source failed: check the network, or use an image with the models" ;;
        5) echo "pre_start: the sources have other bytes than the lock: update the lock, or add a mirror to it" ;;
        6) echo "pre_start: pass a token: mount a file and name it in HF_TOKEN_PATH, or docker run --env HF_TOKEN …" ;;
        7) echo "pre_start: check the volume: its free space and its permissions" ;;
        8) echo "pre_start: another container fills this volume: start this one again when the other is done" ;;
        127) echo "pre_start: this image lacks the program provision" ;;
    esac
    echo "pre_start: the next start resumes from the files that are there, and so does /download_qwen_models.sh"
}

if provision_start && [ -z "$provision_signal" ]; then
    :
elif [ -n "$provision_signal" ]; then
    # A stopped container does not go on, with or without its models.
    echo "pre_start: stopped by a signal; the next start resumes from the files that are there" >&2
    exit "$provision_signal"
else
    provision_explain "$provision_code" >&2
    if [ "${PROVISION_REQUIRED:-1}" = 0 ]; then
        echo "pre_start: starting without the models (PROVISION_REQUIRED=0)" >&2
    else
        echo "pre_start: not starting; set PROVISION_REQUIRED=0 to start without the models" >&2
        exit "$provision_code"
    fi
fi
