#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo: a network of three nodes on this machine, in three zones, with something real in it: content
# is published on one, another is told and fetches it, one is killed and comes back. It stands in a
# temporary directory that is gone afterwards, and stays up until Ctrl-C, so that one can try things.
#
# usage: tools/demo.sh PATH-OF-ARTEL [ADDRESS:PORT...]   (./dev run builds it and calls this)
#
# The addresses are those of the nodes; free ports instead of those that are taken.
# ARTEL_DEMO_MIB: the size of the data set, 256 MiB unless told.
set -euo pipefail

artel=$(realpath "${1:-build/artel}")
shift || true
listen=("${@:-127.0.0.1:7420}")
listen=("${listen[0]}" "${listen[1]:-127.0.0.2:7420}" "${listen[2]:-127.0.0.3:7420}")
names=(a b c)
mib=${ARTEL_DEMO_MIB:-256}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/artel-demo.XXXXXX")
nodes=() # their processes
watcher=
clean_up() {
    # The watcher first, so that it does not say that its node has gone.
    local pid
    for pid in $watcher "${nodes[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    printf '\n%s\n' "$*"
}

# show COMMAND...: as one would type it, then runs it.
show() {
    local line="${*//"$artel"/artel}"
    printf '  $ %s\n' "${line//"$work"\//}"
    "$@"
}

fail() {
    echo "demo: $*" >&2
    exit 1
}

# wait_until SECONDS COMMAND...: until the command succeeds.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

has_line() {
    [[ -s $1 ]]
}

# start_at NUMBER ADDRESS OPTIONS...: waits for its ready line.
start_at() {
    local number=$1 address=$2 name=${names[$1]} pid
    shift 2
    : >"$work/$name.ready"
    "$artel" node --data "$work/$name" --listen "$address" --name "$name" \
        --zone "zone-$((number + 1))" "$@" >"$work/$name.ready" 2>>"$work/$name.log" &
    pid=$!
    is_up_or_gone() {
        has_line "$work/$name.ready" || ! kill -0 "$pid" 2>/dev/null
    }
    wait_until 20 is_up_or_gone || true
    read -r line <"$work/$name.ready" || return 1
    nodes[number]=$pid
    urls[number]=${line#ready }
    listen[number]=${urls[number]#http://}
}

# Somebody else may have the port: then any free one.
start() {
    start_at "$@" || start_at "$1" "${2%:*}:0" "${@:3}" ||
        fail "node ${names[$1]} does not start: $(<"$work/${names[$1]}.log")"
}

# count_alive NUMBER COUNT: does this node see so many alive?
sees_alive() {
    local alive
    alive=$("$artel" members --node "${urls[$1]}" | grep -c ' alive ') || true
    [[ $alive == "$2" ]]
}

urls=()
say "Three nodes come up on this machine, in three zones; each is told the address of the first."
start 0 "${listen[0]}"
start 1 "${listen[1]}" --join "${listen[0]}"
start 2 "${listen[2]}" --join "${listen[0]}"
wait_until 30 sees_alive 0 3 && wait_until 30 sees_alive 2 3 || fail "they do not find each other"
export ARTEL_NODE=${urls[0]}
show "$artel" members

say "Somebody watches at b."
"$artel" watch --node "${urls[1]}" --since 0 --path index >"$work/events" 2>/dev/null &
watcher=$!

say "The documentation goes in at a, and a data set of $mib MiB in one step. --ack 2: the others know it."
show "$artel" put --ack 2 docs docs
mkdir "$work/index"
for part in 1 2 3 4; do
    head -c $((mib * 1024 * 1024 / 4)) /dev/urandom >"$work/index/part-$part"
done
show "$artel" put --ack 2 --atomic "$work/index" index

say "What the watcher at b was told:"
wait_until 20 has_line "$work/events" || fail "it was told nothing"
sed 's/^/  /' "$work/events"

say "c gets it: it has none of it, and fetches it while it gives it out."
show "$artel" get --node "${urls[2]}" index "$work/copy"
diff -r "$work/index" "$work/copy" || fail "it came as something else"
echo "  the same"
show "$artel" why --node "${urls[2]}" index/part-1
show "$artel" where index/part-1

say "a, where it was published, is killed. b gets it all the same, from c."
kill -9 "${nodes[0]}"
wait "${nodes[0]}" 2>/dev/null || true
printf '  $ kill -9 %s\n' "${nodes[0]}"
wait_until 60 sees_alive 1 2 || fail "nobody notices"
show "$artel" members --node "${urls[1]}"
show "$artel" get --node "${urls[1]}" index "$work/copy-of-b"
diff -r "$work/index" "$work/copy-of-b" || fail "it came as something else"
echo "  the same"
show "$artel" why --node "${urls[1]}" index/part-1

say "a comes back; it remembers whom to ask."
start 0 "${listen[0]}"
wait_until 60 sees_alive 0 3 || fail "it does not come back"
show "$artel" members
show "$artel" where index/part-1

say "Every block has the name of its bytes; any tool can check that, at any node:"
id=$("$artel" stat --json docs/API.md | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
printf '  $ curl -s %s/files/%s/metadata | sha256sum\n  ' "${urls[2]}" "$id"
python3 - "${urls[2]}/files/$id/metadata" <<'PYTHON'
import hashlib, sys, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(hashlib.sha256(opener.open(sys.argv[1]).read()).hexdigest())
PYTHON

cat <<NEXT

The nodes stay up until Ctrl-C:

  a  ${urls[0]}
  b  ${urls[1]}
  c  ${urls[2]}

In another terminal:

  export ARTEL_NODE=${urls[0]}
  alias artel=$artel
  artel watch --node ${urls[1]}      # then, in a third one:
  artel put FILE some/path                     artel get --node ${urls[2]} some/path -
  artel where some/path                        artel why --node ${urls[2]} some/path
  artel ls -R                                  artel log some/path
  artel members --watch                        artel --help
  curl ${urls[1]}/fs/docs/API.md
  kill -9 ${nodes[1]}                                  # and see who has what
NEXT
wait "${nodes[@]}" || true
