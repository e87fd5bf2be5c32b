#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo: a node with something real in it, in a temporary directory that is gone afterwards. It stays
# up until Ctrl-C, so that one can try things.
#
# usage: tools/demo.sh PATH-OF-ARTEL [ADDRESS:PORT]   (./dev run builds it and calls this)
set -euo pipefail

artel=$(realpath "${1:-build/artel}")
listen=${2:-127.0.0.1:7420}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/artel-demo.XXXXXX")
processes=()
clean_up() {
    # The watcher first, so that it does not say that its node has gone.
    for ((i = ${#processes[@]} - 1; i >= 0; i--)); do
        kill "${processes[i]}" 2>/dev/null || true
        wait "${processes[i]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    printf '\n%s\n' "$*"
}

# Shows a command as one would type it, then runs it.
show() {
    local line="${*//"$artel"/artel}"
    printf '  $ %s\n' "${line//"$work"\//}"
    "$@"
}

fail() {
    echo "demo: $*" >&2
    exit 1
}

# start_node ADDRESS: waits for its ready line.
start_node() {
    local line= waited
    : >"$work/ready"
    "$artel" node --data "$work/node" --listen "$1" --name demo --log-level warn \
        >"$work/ready" 2>"$work/node.log" &
    local pid=$!
    for ((waited = 0; waited < 200; waited++)); do
        read -r line <"$work/ready" && break
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.05
    done
    [[ $line == "ready "* ]] || return 1
    processes+=("$pid")
    export ARTEL_NODE=${line#ready }
}

# Somebody else may have the port: then any free one.
start_node "$listen" || start_node 127.0.0.1:0 || fail "the node does not start: $(<"$work/node.log")"
say "A node is up: $ARTEL_NODE"

say "Somebody watches."
"$artel" watch --path 'index/**' >"$work/events" 2>/dev/null &
processes+=($!)

say "The documentation goes in, and a data set of 256 MiB as one step."
show "$artel" put docs docs
mkdir "$work/index"
for part in 1 2 3 4; do
    head -c 64M /dev/urandom >"$work/index/part-$part"
done
show "$artel" put --atomic "$work/index" index
show "$artel" ls -R

say "It comes back as it went in."
show "$artel" get index "$work/copy"
diff -r "$work/index" "$work/copy" || fail "it came back as something else"
echo "  the same"

say "What the watcher was told:"
for ((waited = 0; waited < 100; waited++)); do
    [[ -s $work/events ]] && break
    sleep 0.05
done
sed 's/^/  /' "$work/events"

say "Every block has the name of its bytes; any tool can check that:"
id=$("$artel" stat --json docs/API.md | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
printf '  $ curl -s %s/files/%s/metadata | sha256sum\n  ' "$ARTEL_NODE" "$id"
python3 - "$ARTEL_NODE/files/$id/metadata" <<'PYTHON'
import hashlib, sys, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(hashlib.sha256(opener.open(sys.argv[1]).read()).hexdigest())
PYTHON

say "How the node is:"
show "$artel" status

cat <<NEXT

The node stays up until Ctrl-C. In another terminal:

  export ARTEL_NODE=$ARTEL_NODE
  alias artel=$artel
  artel watch                       # then, in a third one:
  artel put FILE some/path          artel get some/path -
  artel ls -R                       artel log some/path
  artel scrub                       artel --help
  curl $ARTEL_NODE/fs/docs/API.md
NEXT
wait "${processes[0]}"
