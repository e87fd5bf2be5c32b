#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo: a tour of what works, in a temporary directory that is gone afterwards.
#
# usage: tools/demo.sh PATH-OF-ARTEL   (./dev run builds it and calls this)
set -euo pipefail

artel=$(realpath "${1:-build/artel}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/artel-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
store=$work/store

say() {
    printf '\n%s\n' "$*"
}

# show [-o FILE] COMMAND...: shows a command as one would type it, then runs it, into FILE.
show() {
    local line output=
    if [[ $1 == -o ]]; then
        output=$2
        shift 2
    fi
    line="${*//"$artel"/artel}${output:+ > $output}"
    printf '  $ %s\n' "${line//"$work"\//}"
    if [[ $output ]]; then
        "$@" >"$output"
    else
        "$@"
    fi
}

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Shows a command that has to fail, and to say so properly: status 1, nothing else.
show_failing() {
    local status=0
    show "$@" || status=$?
    [[ $status -eq 1 ]] || fail "that ended with status $status instead of 1"
}

# flip_bit FILE OFFSET: flips one bit of what the store keeps of FILE, where FILE has that offset.
flip_bit() {
    python3 - "$store" "$@" <<'PYTHON'
import mmap, pathlib, sys

store, file, offset = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
with file.open("rb") as source:
    source.seek(offset)
    wanted = source.read(64)
for path in pathlib.Path(store).rglob("*"):
    if path.is_file() and path.stat().st_size >= len(wanted):
        with path.open("r+b") as kept, mmap.mmap(kept.fileno(), 0) as view:
            place = view.find(wanted)
            if place >= 0:
                view[place] ^= 1
                print(f"  {path.relative_to(store)}: one bit of byte {place}")
                sys.exit(0)
sys.exit("the bytes are nowhere in the store")
PYTHON
}

say "A file of 64 MiB that nobody has seen before, and a copy of it."
head -c 64M /dev/urandom >"$work/big"
cp "$work/big" "$work/copy"

say "The documentation goes in, then the big file; what is printed is its id."
show "$artel" store put --data "$store" README.md docs/*.md
show "$artel" store put --data "$store" "$work/big"
big=$("$artel" store put --data "$store" "$work/copy" | grep -o -E '[0-9a-f]{64}' | head -n 1)

say "The copy was put, too. It has the same id, and took no room."
show "$artel" store ls --data "$store"
show "$artel" store status --data "$store"

say "It comes back as it went in."
show -o "$work/back" "$artel" store get --data "$store" "$big"
show cmp "$work/big" "$work/back"

say "Now the disk decays:"
flip_bit "$work/big" 20000000

say "Whoever reads it gets what comes before the damage and an error, never a wrong byte."
show_failing -o "$work/back" "$artel" store get --data "$store" "$big"
cmp -n "$(stat -c %s "$work/back")" "$work/back" "$work/big" || fail "a wrong byte came out"

say "Scrub reads everything and finds it, too."
show_failing "$artel" store scrub --data "$store"

say "Whoever still has the file puts it again, and all is well."
show "$artel" store put --data "$store" "$work/copy"
show "$artel" store scrub --data "$store"
show -o "$work/back" "$artel" store get --data "$store" "$big"
cmp "$work/big" "$work/back"

cat <<'NEXT'

That was it; the store is gone. To go on:

  alias artel=$PWD/build/artel
  artel store put --data /tmp/store FILE        artel store ls --data /tmp/store
  artel store get --data /tmp/store ID > COPY   artel store scrub --data /tmp/store
  artel --help
NEXT
