# SPDX-License-Identifier: Apache-2.0
"""mount: a node's tree as a file system, beside a local one, bindfs over it, and glusterfs with one brick.

fio writes and reads one large file in order, 1 MiB at a time, and 4 KiB of it at random, one after the
other; then small files of 1 KiB, 100 in a directory, are made, asked for, listed, read and removed.
"Cold" is after a new mount: neither the kernel nor the file system's own process remember anything.
"""

import argparse

from lib.filesystems import *

FILE_BYTES = 1024
PER_DIRECTORY = 100

# What is measured, and what one is.
MEASURES = {
    "write 1 MiB, fsync in the end": "MB/s",
    "read 1 MiB, cold": "MB/s",
    "read 1 MiB, warm": "MB/s",
    "random 4 KiB, cold": "reads/s",
    "random 4 KiB, warm": "reads/s",
    "create 1 KiB": "files/s",
    "stat, cold": "files/s",
    "stat, warm": "files/s",
    "list with find -size, cold": "files/s",
    "list with find -size, warm": "files/s",
    "open, read, close, cold": "files/s",
    "unlink": "files/s",
}


def fio(path, size_mib, *options):
    """Gives what fio says of its one job."""
    words = ["fio", "--output-format=json", "--name=big", f"--filename={path}/big",
             f"--size={size_mib}m", "--ioengine=psync", "--thread", "--invalidate=0"]  # fmt: skip
    result = subprocess.run([*words, *options], capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise SystemExit(f"fio fails: {result.stderr}{result.stdout[-2000:]}")
    job = json.loads(result.stdout[result.stdout.index("{") :])["jobs"][0]
    return job["write" if "--rw=write" in options else "read"]


def large(kind, size_mib, seconds):
    """{measure: figure} of one large file."""
    order, random = ("--bs=1m",), ("--bs=4k", "--rw=randread", f"--runtime={seconds}")
    results = {}
    written = fio(kind.path, size_mib, *order, "--rw=write", "--end_fsync=1")
    results["write 1 MiB, fsync in the end"] = written["bw_bytes"] / 1e6
    for state in ("cold", "warm"):
        if state == "cold":
            kind.forget()
        read = fio(kind.path, size_mib, *order, "--rw=read")
        results[f"read 1 MiB, {state}"] = read["bw_bytes"] / 1e6
    warm = fio(kind.path, size_mib, *random)["iops"]
    kind.forget()
    results["random 4 KiB, cold"] = fio(kind.path, size_mib, *random)["iops"]
    results["random 4 KiB, warm"] = warm
    (kind.path / "big").unlink()
    return results


def small(kind, count):
    """{measure: figure} of `count` small files."""
    content = os.urandom(FILE_BYTES)
    top = kind.path / "small"
    paths = [f"{top}/{number // PER_DIRECTORY}/{number}" for number in range(count)]

    def create():
        os.mkdir(top)
        for number, path in enumerate(paths):
            if number % PER_DIRECTORY == 0:
                os.mkdir(os.path.dirname(path))
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, content)
            os.close(fd)

    def stat():
        for path in paths:
            os.stat(path)

    def find():
        words = ["find", top, "-type", "f", "-size", "+0"]
        found = subprocess.run(words, capture_output=True, check=True).stdout.count(b"\n")
        if found != count:
            raise SystemExit(f"{kind.name}: {found} of {count} files are listed")

    def read():
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            if len(os.read(fd, 4096)) != FILE_BYTES:
                raise SystemExit(f"{kind.name}: {path} is too short")
            os.close(fd)

    def unlink():
        for path in paths:
            os.unlink(path)

    def rate(function, cold=False):
        if cold:
            kind.forget()
        start = time.monotonic()
        function()
        return count / (time.monotonic() - start)

    results = {"create 1 KiB": rate(create)}
    results["stat, cold"] = rate(stat, cold=True)
    results["stat, warm"] = rate(stat)
    results["list with find -size, cold"] = rate(find, cold=True)
    results["list with find -size, warm"] = rate(find)
    results["open, read, close, cold"] = rate(read, cold=True)
    results["unlink"] = rate(unlink)
    return results


def measure(kind_name, where, options):
    kind = KINDS[kind_name](where)
    try:
        kind.start()
        return large(kind, options.mib, options.seconds) | small(kind, options.files)
    finally:
        kind.stop()
        remove(kind.where)


def show(results):
    """A column for each file system, and of artel's figures over those of the others."""
    names = list(results)
    others = [name for name in names if name != "artel"] if "artel" in results else []
    rows = []
    for what, unit in MEASURES.items():
        row = [what, unit]
        row += [f"{median([each[what] for each in results[name]]):.0f}" for name in names]
        for name in others:
            pairs = zip(results["artel"], results[name])
            row.append(spread([ours[what] / theirs[what] for ours, theirs in pairs]))
        rows.append(row)
    print_table(("what", "unit", *names, *(f"artel / {name}" for name in others)), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--mib", type=int, default=512, help="of the large file (512)")
    parser.add_argument("--files", type=int, default=20000, help="small ones (20000)")
    parser.add_argument("--seconds", type=int, default=3, help="of random reads (3)")
    parser.add_argument("--disk", action="store_true", help="on the disk, not in memory")
    options = parser.parse_args()
    enter_namespaces()
    need("fio", "bindfs", "glusterd", "fusermount3", packages="fio bindfs glusterfs-server fuse3")
    root = disk_root() if options.disk else MEMORY_ROOT
    print_machine(root)
    results = {name: [] for name in options.kinds}
    others = Others()
    with work_dir(root) as where:
        for number in range(options.rounds):
            for name, each in results.items():
                progress(f"round {number + 1} of {options.rounds}, {name}")
                each.append(measure(name, where, options))
    progress("")
    print(f"{options.mib} MiB, {options.files} files, {options.rounds} rounds in turn")
    show(results)
    others.print()


main()
