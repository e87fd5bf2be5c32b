# SPDX-License-Identifier: Apache-2.0
"""store-intake: content from elsewhere into a store, against what has to be done at least.

1 GiB stands in memory, as after the socket, and comes block by block: hashed, compared with its id,
written, committed. Beside it, in the same process, every byte is copied once and hashed; and
`openssl dgst -sha256` reads and hashes the same bytes from the page cache, one thread. "taken" is
the time until the last block can be read, "whole" until the file is durable.
"""

import argparse
import json

from lib.common import *

PROGRAM = BUILD_DIR / "bench" / "bench_store_intake"
SIZES = (256 * KIB, 1 * MIB, 4 * MIB)


def openssl(path):
    begin = time.monotonic()
    subprocess.run(
        ["openssl", "dgst", "-sha256", str(path)], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - begin


def measure(root, block_bytes, total_bytes, rounds, threads):
    """Lines of the program, and the seconds of openssl, one a round."""
    with work_dir(root) as where:
        result = subprocess.run(
            [
                *map(str, (PROGRAM, where, block_bytes, total_bytes // block_bytes)),
                *map(str, (rounds, threads)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        if result.returncode:
            raise SystemExit(f"failed: {PROGRAM}")
        hashed = [openssl(where / "plain") for _ in range(rounds)]
    return [json.loads(line) for line in result.stdout.splitlines()], hashed


def rows_of(root, block_bytes, options):
    total_bytes = options.mebibytes * MIB
    lines, hashed = measure(root, block_bytes, total_bytes, options.rounds, options.threads)
    of = lambda method, key: [line[key] for line in lines if line["method"] == method]
    rate = lambda seconds: spread([total_bytes / 1e9 / each for each in seconds])
    least, ours = of("copy+sha256", "seconds"), of("intake", "seconds")
    cpu = [a / b for a, b in zip(of("copy+sha256", "cpu_seconds"), of("intake", "cpu_seconds"))]
    size = f"{block_bytes // KIB} KiB"
    return [
        [size, "openssl dgst -sha256, 1 thread", "", rate(hashed), "", ""],
        [size, "copy+sha256", "", rate(least), "", ""],
        [
            size,
            "intake",
            rate(of("intake", "taken_seconds")),
            rate(ours),
            spread([a / b for a, b in zip(least, ours)]),
            spread(cpu),
        ],
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--threads", type=int, default=2, help="that bring blocks (2)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="of content (1024)")
    options = parser.parse_args()
    print_machine(disk_root(), MEMORY_ROOT)
    for root in (MEMORY_ROOT, disk_root()):
        rows = []
        for block_bytes in SIZES:
            rows += rows_of(root, block_bytes, options)
        print(f"{file_system(root)}: {options.rounds} rounds, {options.threads} threads")
        print_table(
            ["blocks of", "what", "GB/s taken", "GB/s whole", "of copy+sha256", "same, processor"],
            rows,
        )


main()
