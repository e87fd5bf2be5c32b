# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a place to work, runs in turn, tables.

Figures are compared as they were measured side by side: a round runs every case once, one after the
other, and a ratio is taken within a round, so that a machine that is slow for a while is slow for
all of them. The median over the rounds is given, with the lowest and the highest.

Environment:
  ARTEL_BUILD_DIR   where the program is; ./dev bench sets it
  ARTEL_BENCH_DIR   where the work is done; TMPDIR or /var/tmp without it. It should be on a disk.
"""

import contextlib
import dataclasses
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD_DIR = pathlib.Path(os.environ.get("ARTEL_BUILD_DIR", "build")).resolve()
ARTEL = BUILD_DIR / "artel"
MEMORY_ROOT = pathlib.Path("/dev/shm")

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


# ---- where --------------------------------------------------------------------------------------


def disk_root():
    return pathlib.Path(
        os.environ.get("ARTEL_BENCH_DIR") or os.environ.get("TMPDIR") or "/var/tmp"
    ).resolve()


@contextlib.contextmanager
def work_dir(root=None):
    """A directory that goes away; on the disk unless told otherwise."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="artel-bench-", dir=root or disk_root()))
    try:
        yield path
    finally:
        remove(path)


def remove(path):
    """Removes a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def settle(path):
    """Waits until the file system has nothing left to write, so that no run pays for another."""
    subprocess.run(["sync", "-f", str(path)], check=True)


# ---- the machine --------------------------------------------------------------------------------


def first_line(path, prefix):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(prefix):
            return line.split(":", 1)[1].strip()
    return "unknown"


def file_system(path):
    """What `path` lies on: type of the file system, device, kind of the device."""
    out = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", str(path)], capture_output=True, text=True
    ).stdout.split()
    kind, source = [*out, "", ""][:2]
    if not source.startswith("/"):
        return kind or "unknown"
    device = pathlib.Path("/sys/class/block") / pathlib.Path(source).name
    queue = device / "queue" if (device / "queue").exists() else device / ".." / "queue"
    with contextlib.suppress(OSError):
        rotates = (queue / "rotational").read_text().strip() == "1"
        virtual = pathlib.Path(source).name.startswith("vd")
        medium = "virtual disk" if virtual else "spinning disk" if rotates else "solid state"
        return f"{kind} on {source} ({medium})"
    return f"{kind} on {source}"


def print_machine(*roots):
    memory = int(first_line("/proc/meminfo", "MemTotal").split()[0]) * KIB
    print(f"processor    {first_line('/proc/cpuinfo', 'model name')}")
    print(f"cores        {os.cpu_count()}, memory {memory / GIB:.0f} GiB")
    print(f"system       Linux {platform.release()}")
    for root in roots or [disk_root()]:
        print(f"directory    {root}: {file_system(root)}")
    print(f"program      {ARTEL}\n", flush=True)


# ---- runs ---------------------------------------------------------------------------------------


# In a command line: a path that does not exist yet, another one in each run.
TARGET = "@TARGET@"


@dataclasses.dataclass
class Case:
    """One thing that is measured: `run` and, before it and not measured, `prepare`. Both are called
    with the path that stands for TARGET."""

    name: str
    run: object
    prepare: object = None
    seconds: list = dataclasses.field(default_factory=list)
    cpu_seconds: list = dataclasses.field(default_factory=list)  # all cores together


def commands(*lines, cwd=None, may_fail=False):
    """A function that runs command lines one after the other; one that fails ends the benchmark."""

    def run(target):
        for line in lines:
            words = [str(word).replace(TARGET, str(target)) for word in line]
            result = subprocess.run(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=cwd
            )
            if result.returncode and not may_fail:
                error = result.stderr.decode(errors="replace")
                raise SystemExit(f"failed: {' '.join(words)}\n{error}")

    return run


def busy_seconds():
    """Processor time of all processes, and of ours with what they started."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    ours = os.times()
    return (
        (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"),
        ours.user + ours.system + children_seconds(),
    )


def children_seconds():
    """Processor time of all processes that were started and have ended."""
    ours = os.times()
    return ours.children_user + ours.children_system


def run_rounds(cases, rounds, where, keep=False):
    """Runs every case once a round, in the directory `where`.

    What a run made is removed after it; with `keep`, when `where` is. For a minute after many files
    were removed, ext4 is ten times slower to make new ones (it looks at each inode that was freed,
    and does not use it again at once), so whoever makes many keeps them.
    """
    all_before, ours_before = busy_seconds()
    begin = time.monotonic()
    for number in range(rounds):
        for index, case in enumerate(cases):
            target = where / f"run-{number}-{index}"
            if case.prepare:
                case.prepare(target)
            settle(where)
            start, start_cpu = time.monotonic(), children_seconds()
            case.run(target)
            case.seconds.append(time.monotonic() - start)
            case.cpu_seconds.append(children_seconds() - start_cpu)
            if not keep:
                remove(target)
            progress(f"round {number + 1} of {rounds}, {case.name}: {case.seconds[-1]:.3f} s")
    progress("")
    all_after, ours_after = busy_seconds()
    # Work that the kernel does for us in threads of its own counts as others'.
    others = (all_after - all_before) - (ours_after - ours_before)
    share = max(0.0, others) / ((time.monotonic() - begin) * (os.cpu_count() or 1))
    print(f"{rounds} rounds in turn; others used {share:.0%} of the processors meanwhile")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# ---- figures ------------------------------------------------------------------------------------


def median(values):
    return statistics.median(values)


def spread(values, form="{:.2f}"):
    """median (lowest to highest)"""
    low, middle, high = min(values), median(values), max(values)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def ratios(case, *others, combine=sum):
    """The time of `case` over that of the others, round by round."""
    bounds = [combine(each) for each in zip(*(other.seconds for other in others))]
    return [mine / bound for mine, bound in zip(case.seconds, bounds)]


def print_table(headings, rows):
    """As Markdown, so that it can stand in a document as it is."""
    cells = [list(map(str, row)) for row in [headings, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]

    def line(row):
        return "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |"

    print(line(cells[0]))
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in cells[1:]:
        print(line(row))
    print(flush=True)
