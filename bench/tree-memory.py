# SPDX-License-Identifier: Apache-2.0
"""tree-memory: what a tree of many entries takes, and how fast it takes what another one has.

A tree is filled, an op for each entry, in the order of paths ("walk") or in any ("random"). Another one
pulls its log and applies it, 1,000 ops in a transaction; a third one merges a snapshot of it, 4,000
records in a transaction. One thread; the databases are in memory. What whole nodes take, and what a join
takes over the network: join-tree.
"""

import argparse

from lib.nodes import *

PROGRAM = BUILD_DIR / "bench" / "bench_tree_apply"
BATCH_OPS = 1000
STEP_RECORDS = 4000


def measure(entries, options):
    others = Others()
    with work_dir(MEMORY_ROOT) as where:
        words = [PROGRAM, where, entries, BATCH_OPS, STEP_RECORDS, options.rounds]
        run = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise SystemExit(f"failed: {PROGRAM}")
    lines = [json.loads(line) for line in run.stdout.splitlines()]

    def rates(what, key, value, count):
        found = [line for line in lines if line.get(key) == value]
        return (
            what,
            spread([line[count] / line["seconds"] for line in found], "{:,.0f}"),
            spread([line[count] / line["cpu_seconds"] for line in found], "{:,.0f}"),
            f"{found[-1]['bytes'] / found[-1][count]:.1f}" if "bytes" in found[-1] else "",
        )

    rows = [
        rates("made here, walk, ops", "fill", "walk", "ops"),
        rates("made here, random, ops", "fill", "random", "ops"),
        rates("read for another, walk, ops", "pull", "walk", "ops"),
        rates("read for another, random, ops", "pull", "random", "ops"),
        rates("applied, walk, ops", "apply", "walk", "ops"),
        rates("applied, random, ops", "apply", "random", "ops"),
        rates("snapshot written, entries", "snapshot", "write", "entries"),
        rates("snapshot checked, entries", "snapshot", "check", "entries"),
        rates("snapshot merged, entries", "snapshot", "merge", "entries"),
    ]
    print(f"{entries} entries, {options.rounds} rounds")
    print_table(("what", "in a second", "in a second of processor time", "bytes each"), rows)
    sizes = [
        (line["database"], line["order"], f"{line['bytes'] / line['entries']:.0f}")
        for line in lines
        if "database" in line
    ]
    print_table(("database", "order", "bytes for each entry"), sizes)
    for line in lines:
        if "memory" in line:
            print(f"private memory of the program, {line['memory']}: {line['Anonymous'] / MIB:.1f} MiB")
    others.print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=1000000, help="(1000000)")
    parser.add_argument("--large", action="store_true", help="10,000,000 too: 12 GiB of memory")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    options = parser.parse_args()
    print_machine(MEMORY_ROOT)
    for entries in [options.entries] + ([10000000] if options.large else []):
        measure(entries, options)


main()
