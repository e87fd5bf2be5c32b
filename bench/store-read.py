# SPDX-License-Identifier: Apache-2.0
"""store-read: blocks out of a store, checked, against pread() of a plain file; lookups in a large
index; memory.

The bytes are in the page cache and one thread reads, so a figure is one of a core. "pread+crc32c"
is what a read that copies and checks takes at least; a view checks in place and copies nothing.
"""

import argparse
import json

from lib.common import *

PROGRAM = BUILD_DIR / "bench" / "bench_store_read"
SIZES = ((4 * KIB, 256 * MIB), (64 * KIB, 1 * GIB), (256 * KIB, 1 * GIB))
METHODS = ("pread", "pread+crc32c", "store_read_block", "store_view")


def measure(where, *arguments):
    """Runs the program, gives the lines it printed."""
    result = subprocess.run(
        [str(PROGRAM), arguments[0], str(where), *map(str, arguments[1:])],
        stdout=subprocess.PIPE,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"failed: {PROGRAM}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def blocks(rounds):
    rows = []
    for block_bytes, total_bytes in SIZES:
        with work_dir() as where:
            lines = measure(where, "blocks", block_bytes, total_bytes // block_bytes, rounds)
        for order in ("sequential", "random"):
            seconds = {
                method: [
                    line["seconds"]
                    for line in lines
                    if (line["method"], line["order"]) == (method, order)
                ]
                for method in METHODS
            }
            for method in METHODS:
                pairs = [a / b for a, b in zip(seconds["pread"], seconds[method])]
                rows.append(
                    [
                        f"{block_bytes // KIB} KiB",
                        order,
                        method,
                        spread([total_bytes / 1e9 / each for each in seconds[method]]),
                        f"{total_bytes / block_bytes / median(seconds[method]):,.0f}",
                        spread(pairs) if method != "pread" else "",
                    ]
                )
    print(f"{rounds} rounds in turn, one thread")
    print_table(["blocks of", "order", "how", "GB/s", "blocks/s", "rate over that of pread"], rows)


def lookups(root, count, rounds):
    with work_dir(root) as where:
        lines = measure(where, "lookups", count, rounds)
        index_bytes = sum(
            each.stat().st_blocks * 512 for each in (where / "store" / "index").iterdir()
        )

    def seconds(key, value):
        return [line["seconds"] for line in lines if line.get(key) == value]

    def rate(name):
        counts = [line["count"] for line in lines if line.get("lookups") == name]
        return spread([c / s for c, s in zip(counts, seconds("lookups", name))], "{:,.0f}")

    (fill,) = (line for line in lines if "fill" in line)
    memory = {line["memory"]: line for line in lines if "memory" in line}
    mib = lambda value: f"{value / MIB:,.0f} MiB"
    rows = [
        ["filling, files of one block", f"{count / fill['seconds']:,.0f} /s"],
        ["index on the disk", f"{mib(index_bytes)}, {index_bytes / count:.0f} bytes a block"],
        ["opening the store", spread([1000 * s for s in seconds("open", count)]) + " ms"],
        ["lookups of blocks that are here", rate("present") + " /s"],
        ["lookups of blocks that are not", rate("absent") + " /s"],
    ]
    for when, line in memory.items():
        private = line["Private_Clean"] + line["Private_Dirty"]
        shared = line["Shared_Clean"] + line["Shared_Dirty"]
        rows.append(
            [
                f"memory, {when}",
                f"{mib(line['Rss'])} resident: {mib(private)} private, {mib(shared)} shared; "
                f"{mib(line['Anonymous'])} not backed by a file",
            ]
        )
    print(f"{count:,} blocks on {file_system(root)}, one thread")
    print_table(["what", "figure"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--blocks",
        type=int,
        default=10_000_000,
        help="blocks in the index (10000000); 0: no lookups",
    )
    parser.add_argument("--only-lookups", action="store_true")
    parser.add_argument("--rounds", type=int, default=7, help="(7)")
    parser.add_argument(
        "--index-dir",
        type=pathlib.Path,
        default=MEMORY_ROOT,
        help="where the large index is made (/dev/shm: on a disk, filling takes far longer)",
    )
    options = parser.parse_args()
    print_machine(disk_root(), options.index_dir)
    if not options.only_lookups:
        blocks(options.rounds)
    if options.blocks:
        lookups(options.index_dir, options.blocks, options.rounds)


main()
