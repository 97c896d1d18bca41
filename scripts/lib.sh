# shellcheck shell=bash
# Functions of the other scripts. It is sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck disable=SC2034 # read by the scripts that source this one
private=$root/.local
# The programs that a server runs, as Package.swift calls their products.
# shellcheck disable=SC2034
programs=(webhook-api admin-api aggregation-worker codexflow)
children=()
# With these variables of the caller libpq would connect to another server.
unset "${!PG@}"

# fail WORDS...: prints what is wrong in one line and exits.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# postgres_bin: the directory of PostgreSQL's server binaries: those of libpq's version, else the newest.
postgres_bin() {
    local directory
    for directory in "$(pg_config --bindir 2>/dev/null)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [[ -x $directory/initdb && -x $directory/postgres ]]; then
            echo "$directory"
            return
        fi
    done
}

# random_hex BYTES: that many random bytes in hexadecimal.
random_hex() { od -An -v -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

# python_tools NAME REQUIREMENT...: a virtual environment .local/NAME with these packages, made once for each list.
python_tools() {
    local environment=$private/$1 wanted="${*:2}"
    if [[ $(cat "$environment/installed" 2>/dev/null) == "$wanted" ]]; then return; fi
    echo "installing $wanted into ${environment#"$root"/}"
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet "${@:2}" 2>"$private/pip.log" ||
        fail "pip could not install $wanted: $(tail -n 1 "$private/pip.log")"
    echo "$wanted" >"$environment/installed"
}

# hold_lock NAME: allows one process at a time. The lock ends with this script and its children, by descriptor 9.
hold_lock() {
    mkdir -p "$private"
    exec 9>"$private/$1.lock"
    flock --nonblock 9 || fail "another 'make $1' is at work in this checkout"
}

# begin COMMAND...: starts a child in a process group of its own, so that Ctrl-C reaches this script only, which stops
# its children in order. The process id is the last of $children.
begin() {
    set -m
    "$@" </dev/null &
    children+=("$!")
    set +m
}

# attend COMMAND...: begins it and waits for its end. Unlike with a foreground command, traps run at once.
attend() {
    local code=0
    begin "$@"
    wait "${children[-1]}" || code=$?
    unset 'children[-1]'
    return "$code"
}

# signal_children SIGNAL: sends it to the groups of all children.
signal_children() {
    local child
    for child in "${children[@]}"; do kill "-$1" -- "-$child" 2>/dev/null || true; done
}

# any_child_lives: whether one of them has not ended.
any_child_lives() {
    local child
    for child in "${children[@]}"; do
        if kill -0 "$child" 2>/dev/null; then return 0; fi
    done
    return 1
}

# end_children: SIGTERM to all, SIGKILL half a minute later.
end_children() {
    signal_children TERM
    for ((i = 0; i < 300; i++)); do
        any_child_lives || break
        sleep 0.1
    done
    signal_children KILL
    wait
    children=()
}
