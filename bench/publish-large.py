# SPDX-License-Identifier: Apache-2.0
"""publish-large: one large file into a store, durable, against copying and hashing it.

The file is in the page cache. A put has to write the bytes and to hash them; so it is held against
`cp` with a sync plus `sha256sum`, and against the longer of the two, which is what two cores that
work at once could reach. The same with `openssl dgst`, which uses the processor's SHA instructions
where sha256sum does not.
"""

import argparse

from lib.common import *


def random_file(path, size_bytes):
    with path.open("wb") as file:
        for _ in range(0, size_bytes, MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (1024)")
    parser.add_argument("--rounds", type=int, default=7, help="(7)")
    parser.add_argument("--memory", action="store_true", help="in /dev/shm: without the disk")
    options = parser.parse_args()
    root = MEMORY_ROOT if options.memory else disk_root()
    print_machine(root)
    with work_dir(root) as where:
        measure(where, options)


def measure(where, options):
    file = where / "file"
    size = options.mib * MIB
    random_file(file, size)

    def warm(target):
        with file.open("rb", buffering=0) as opened:
            while opened.read(MIB):
                pass

    def case(name, *lines):
        return Case(name, commands(*lines), warm)

    words = [ARTEL, "store", "put", "--data", TARGET]
    put = case("artel store put", [*words, file])
    in_place = case("artel store put --in-place", [*words, "--in-place", file])
    copied = case("cp + sync", ["cp", file, TARGET], ["sync", TARGET])
    summed = case("sha256sum", ["sha256sum", file])
    hashed = case("openssl dgst -sha256", ["openssl", "dgst", "-sha256", file])
    dd = ["dd", f"if={file}", f"of={TARGET}", "bs=1M", "conv=fsync"]
    written = case("dd conv=fsync", dd)
    direct = case("dd oflag=direct", [*dd, "oflag=direct"])

    cases = [put, copied, summed, in_place]
    if shutil.which("openssl"):
        cases.append(hashed)
    cases.append(written)
    if not options.memory:
        cases.append(direct)
    run_rounds(cases, options.rounds, where)

    print_table(
        ["what", "seconds", "MB/s", "processor seconds"],
        [
            [
                each.name,
                spread(each.seconds),
                f"{size / 1e6 / median(each.seconds):.0f}",
                f"{median(each.cpu_seconds):.2f}",
            ]
            for each in cases
        ],
    )
    rows = [
        ["put", "cp + sync, then sha256sum", spread(ratios(put, copied, summed))],
        ["put", "the longer of these two", spread(ratios(put, copied, summed, combine=max))],
        ["put --in-place", "sha256sum", spread(ratios(in_place, summed))],
    ]
    if hashed in cases:
        rows[2:2] = [
            ["put", "cp + sync, then openssl", spread(ratios(put, copied, hashed))],
            ["put", "the longer of these two", spread(ratios(put, copied, hashed, combine=max))],
        ]
        rows.append(["put --in-place", "openssl", spread(ratios(in_place, hashed))])
    rows.append(["put", "dd conv=fsync", spread(ratios(put, written))])
    print_table(["time of", "over that of", "ratio"], rows)


main()
