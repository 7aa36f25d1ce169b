# Named, timed phases of a test run; sourced by tests/run and .ci/run.
# shellcheck shell=bash

phase_names=()
phase_seconds=()
phase_results=()

# phase NAME COMMAND [ARGUMENT…]: runs the command and keeps how long it took. A failure ends the
# script, because a later phase would only repeat it.
phase() {
    local name=$1 start=$SECONDS result=0
    shift
    printf '\n==> %s\n' "$name"
    # Not `"$@" || result=$?`: in a condition `set -e` has no effect on anything that is called.
    set +e
    (
        set -e
        "$@"
    )
    result=$?
    set -e
    phase_names+=("$name")
    phase_seconds+=("$((SECONDS - start))")
    phase_results+=("$result")
    if ((result != 0)); then
        printf '\nfailed: %s (exit code %d)\n' "$name" "$result" >&2
        exit "$result"
    fi
}

# Prints what ran and how long it took.
phase_summary() {
    local index verdict
    printf '\n%-28s %8s\n' phase seconds
    for index in "${!phase_names[@]}"; do
        verdict=''
        ((phase_results[index] == 0)) || verdict=' failed'
        printf '%-28s %8d%s\n' "${phase_names[index]}" "${phase_seconds[index]}" "$verdict"
    done
    printf '%-28s %8d\n' total "$SECONDS"
}
