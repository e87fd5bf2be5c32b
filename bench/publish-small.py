# SPDX-License-Identifier: Apache-2.0
"""publish-small: a directory tree of many small files into a store, durable at the end.

Against `cp -r` and `git add` of the same tree. git does not sync loose objects unless it is told
to, so it is measured three ways: as it is, with one sync of the file system behind it as `cp -r`
gets, and with git's own durable way (core.fsync=all, core.fsyncMethod=batch). It does not compress
here. The same in memory shows what the processor allows, `sha256sum` and `openssl dgst` what
hashing alone takes.
"""

import argparse
import random

from lib.common import *

FILES_IN_DIRECTORY = 100
FILE_BYTES_MIN = 4 * KIB
FILE_BYTES_MAX = 16 * KIB


def make_tree(root, count):
    """`count` files of random sizes and bytes; gives how many bytes in all."""
    numbers = random.Random(count)
    total = 0
    for i in range(count):
        number = i // FILES_IN_DIRECTORY
        directory = root / f"{number // 100:02}" / f"{number % 100:02}"
        if i % FILES_IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        size = numbers.randint(FILE_BYTES_MIN, FILE_BYTES_MAX)
        (directory / f"file-{i:06}.bin").write_bytes(numbers.randbytes(size))
        total += size
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--files", type=int, nargs="+", default=[10000, 100000], help="(10000 100000)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    options = parser.parse_args()
    print_machine(disk_root(), MEMORY_ROOT)
    for count in options.files:
        for root in (disk_root(), MEMORY_ROOT):
            with work_dir(root) as where:
                measure(where, count, options.rounds, in_memory=root == MEMORY_ROOT)


def measure(where, count, rounds, in_memory):
    tree = where / "tree"
    total = make_tree(tree, count)
    warm = commands(["grep", "-rqs", "no file has this text in it", tree], may_fail=True)

    def new_repository(target):
        warm(target)
        commands(["git", "init", "-q", "--bare", TARGET])(target)

    def git_add(*settings):
        words = ["git", f"--git-dir={TARGET}", f"--work-tree={tree}"]
        for setting in ("core.compression=0", "core.bare=false", *settings):
            words += ["-c", setting]
        return [*words, "add", "-A", "."]

    def git_case(name, *lines):
        return Case(name, commands(*lines, cwd=tree), new_repository)

    sync = ["sync", "-f", where]
    put = Case("artel store put", commands([ARTEL, "store", "put", "--data", TARGET, tree]), warm)
    copied = Case("cp -r", commands(["cp", "-r", tree, TARGET]), warm)
    synced = Case("cp -r + sync", commands(["cp", "-r", tree, TARGET], sync), warm)
    git = git_case("git add", git_add())
    git_synced = git_case("git add + sync", git_add(), sync)
    batch = git_add("core.fsync=all", "core.fsyncMethod=batch")
    git_batch = git_case("git add, core.fsync=all, batch", batch)
    find = f"find '{tree}' -type f -print0 | xargs -0 -n 5000"
    summed = Case("sha256sum of all", commands(["sh", "-c", f"{find} sha256sum"]), warm)
    openssl = commands(["sh", "-c", f"{find} openssl dgst -sha256"])
    hashed = Case("openssl dgst of all", openssl, warm)

    cases = [put, copied, git] if in_memory else [put, synced, git, git_synced, git_batch]
    cases.append(summed)
    if shutil.which("openssl"):
        cases.append(hashed)

    print(f"{count} files, {total / 1e6:.0f} MB, on {file_system(where)}")
    run_rounds(cases, rounds, where, keep=not in_memory)
    rows = []
    for case in cases:
        ratio = spread(ratios(put, case)) if case != put else ""
        seconds = median(case.seconds)
        rows.append(
            [
                case.name,
                spread(case.seconds),
                f"{count / seconds:.0f}",
                f"{total / 1e6 / seconds:.0f}",
                f"{median(case.cpu_seconds):.2f}",
                ratio,
            ]
        )
    if hashed in cases:
        both = [cases[1], hashed]
        name = " + ".join(each.name for each in both)
        rows.append([name, "", "", "", "", spread(ratios(put, *both))])
    print_table(
        ["what", "seconds", "files/s", "MB/s", "processor seconds", "time of put over it"], rows
    )


main()
