# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: the program, data directories, contents, faults.

A test drives the real binary ($ARTEL_BUILD_DIR/artel) as a person would, and knows by itself what
must come out: file ids are computed here from the format alone.

Environment:
  ARTEL_BUILD_DIR    where the program and libfault are
  ARTEL_BUILD        the preset; under asan and tsan `scaled` makes less of everything
  ARTEL_TEST_SCALE   more (or less) rounds; 1 is what CI runs
  ARTEL_TEST_SEED    the seed of all random choices; each run prints the one it used
  ARTEL_TEST_KEEP    keep the directories of tests that failed
  ARTEL_TEST_JOBS    cases at once; the number of processors without it
"""

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BUILD_DIR = pathlib.Path(os.environ.get("ARTEL_BUILD_DIR", "build")).resolve()
BUILD = os.environ.get("ARTEL_BUILD", "release")
ARTEL = BUILD_DIR / "artel"
SANITIZED = BUILD in ("asan", "tsan")
SCALE = float(os.environ.get("ARTEL_TEST_SCALE", "1"))
SEED = int(os.environ.get("ARTEL_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
JOBS = int(os.environ.get("ARTEL_TEST_JOBS", "0")) or os.cpu_count() or 1

# False alarms of ThreadSanitizer: libuv closes descriptors by raw system calls that it can't see.
TSAN_SUPPRESSIONS = pathlib.Path(__file__).resolve().parent.parent / "tsan-suppressions.txt"

# A sanitizer that found something ends the program with this, whatever the program wanted.
SANITIZER_STATUS = 99
SANITIZER_TEXT = r"(Address|Thread|Leak|UndefinedBehavior)Sanitizer|runtime error:"
# Nothing that a test runs takes this long; it hangs.
RUN_TIMEOUT_S = 300 if SANITIZED else 60


def scaled(count, sanitized=0.1):
    """How many of something to do: `count` times the scale, and less under a sanitizer."""
    return max(1, round(count * SCALE * (sanitized if SANITIZED else 1)))


# ---- contents and their ids ---------------------------------------------------------------------

KIB = 1024
MIB = 1024 * KIB
BLOCK_BYTES = 256 * KIB  # of a file below 256 MiB


def content(seed, size):
    """`size` random bytes, the same for the same seed (any value with a repr)."""
    return random.Random(repr(seed)).randbytes(size)


def metadata_text(data):
    """The canonical text that names `data`, which is less than 256 MiB."""
    blocks = []
    for offset in range(0, len(data), BLOCK_BYTES):
        block = data[offset : offset + BLOCK_BYTES]
        blocks.append({"id": hashlib.sha256(block).hexdigest(), "size": len(block)})
    return json.dumps({"length": len(data), "blocks": blocks}, separators=(",", ":"))


def file_id(data):
    return hashlib.sha256(metadata_text(data).encode()).hexdigest()


# ---- directories --------------------------------------------------------------------------------


def temp_root():
    """Where temporary directories go: memory if it can be had, the tests write a lot."""
    if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK):
        return "/dev/shm"
    return tempfile.gettempdir()


@contextlib.contextmanager
def temp_dir():
    """A directory that goes away, unless its test fails and ARTEL_TEST_KEEP is set."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="artel-test-", dir=temp_root())).resolve()
    failed = True
    try:
        yield path
        failed = False
    finally:
        if failed and os.environ.get("ARTEL_TEST_KEEP"):
            print(f"kept: {path}", file=sys.stderr)
        else:
            shutil.rmtree(path, ignore_errors=True)


def copy_tree(source, target):
    """Copies a directory; holes stay holes."""
    subprocess.run(
        ["cp", "-a", "--sparse=always", f"{source}/.", str(target)], check=True, timeout=60
    )


# ---- processes ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Result:
    arguments: list
    status: int  # the exit status, or the negative signal
    out: bytes
    err: str

    def __str__(self):
        text = self.out[:2000].decode(errors="replace") if len(self.out) < 20000 else "..."
        command = " ".join(map(str, self.arguments))
        return f"{command}\n  status {self.status}\n{text}{self.err[-4000:]}"


class Failure(AssertionError):
    """Something that must hold did not."""


def check(condition, message, *details):
    if not condition:
        raise Failure("\n".join([str(message), *map(str, details)]))


def environment(extra=None):
    env = dict(os.environ)
    code = f"exitcode={SANITIZER_STATUS}"
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
        env[name] = ":".join(filter(None, [env.get(name), code]))
    if TSAN_SUPPRESSIONS.exists():
        env["TSAN_OPTIONS"] += f":suppressions={TSAN_SUPPRESSIONS}"
    env.update(extra or {})
    return env


def start(*arguments, env=None, program=ARTEL, **options):
    """Starts the program (or another one of ours); the caller ends it with stop()."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
    return subprocess.Popen(
        [str(program), *map(str, arguments)], stderr=subprocess.PIPE, env=environment(env), **options
    )


def stop(process, signal_number=signal.SIGKILL):
    """Ends a process that start() started and gives its Result."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal_number)
    return finish(process)


def finish(process, timeout_s=RUN_TIMEOUT_S, data=None):
    """Waits until a process ends and gives its Result."""
    try:
        out, err = process.communicate(input=data, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        out, err = process.communicate()
        raise Failure(f"hangs: {process.args}\n{err.decode(errors='replace')}") from None
    result = Result(process.args[1:], process.returncode, out or b"", err.decode(errors="replace"))
    found = result.status == SANITIZER_STATUS or re.search(SANITIZER_TEXT, result.err)
    check(not found, "a sanitizer found something", result)
    return result


def run(*arguments, data=None, timeout_s=RUN_TIMEOUT_S, **options):
    """Runs the program to its end; `data` goes to its standard input."""
    stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
    return finish(start(*arguments, stdin=stdin, **options), timeout_s, data)


def wait_for(condition, deadline_s, what):
    """Waits until condition() is true and gives what it returned; fails after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"not within {deadline_s} s: {what}")
        time.sleep(0.01)


# ---- faults -------------------------------------------------------------------------------------

# In the order of the counters of libfault.
CLASSES = "write sync truncate punch rename unlink create open read map alloc any".split()
_numbers = itertools.count()
_numbers_lock = threading.Lock()


@functools.cache
def _sanitizer_runtime():
    """The runtime has to come before libfault; the program says which one it is linked with."""
    if not SANITIZED:
        return []
    libraries = subprocess.run(["ldd", str(ARTEL)], capture_output=True, text=True, check=True)
    return re.findall(r"=> (\S*/lib[at]san\S*)", libraries.stdout)


@dataclasses.dataclass
class Fault:
    """What libfault is to do, and afterwards what it counted."""

    root: pathlib.Path
    call_class: str = ""
    at: int = 0
    action: str = ""
    error: int = errno.EIO
    trace: pathlib.Path = None
    counts: dict = None

    def __str__(self):
        if not self.call_class:
            return "no fault"
        name = f" ({errno.errorcode[self.error]})" if self.action.startswith("fail") else ""
        return f"{self.action} at {self.call_class} {self.at}{name}"

    def env(self, count_path):
        library = "libfault-alloc.so" if self.call_class == "alloc" else "libfault.so"
        preload = [*_sanitizer_runtime(), str(BUILD_DIR / "tests" / "fault" / library)]
        env = {
            "LD_PRELOAD": ":".join(preload),
            "FAULT_ROOT": str(self.root),
            "FAULT_COUNT": str(count_path),
        }
        if self.call_class:
            env |= {
                "FAULT_CLASS": self.call_class,
                "FAULT_AT": str(self.at),
                "FAULT_ACTION": self.action,
                "FAULT_ERRNO": str(self.error),
            }
        if self.trace:
            env["FAULT_TRACE"] = str(self.trace)
        return env

    def start(self, *arguments, **options):
        with _numbers_lock:
            number = next(_numbers)
        self._count_path = pathlib.Path(temp_root()) / f"artel-count-{os.getpid()}-{number}"
        return start(*arguments, env=self.env(self._count_path), **options)

    def finish(self, process, data=None):
        """Waits for a process of self.start(), reads the counters."""
        try:
            return finish(process, data=data)
        finally:
            self.collect()

    def collect(self):
        counts = self._count_path.read_bytes() if self._count_path.exists() else b""
        self._count_path.unlink(missing_ok=True)
        check(len(counts) == 8 * len(CLASSES), "libfault was not loaded", self)
        self.counts = dict(zip(CLASSES, struct.unpack(f"={len(CLASSES)}Q", counts)))

    def run(self, *arguments, data=None, **options):
        stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
        return self.finish(self.start(*arguments, stdin=stdin, **options), data)

    @property
    def struck(self):
        """Was the n-th call made?"""
        return self.counts[self.call_class] >= self.at


# ---- a data directory and what it must hold -----------------------------------------------------


def acknowledged(result):
    """The ids that a put acknowledged, whole lines only."""
    lines = result.out.split(b"\n")[:-1]
    ids = [line.split(b" ", 1)[0].decode() for line in lines]
    check(all(re.fullmatch("[0-9a-f]{64}", each) for each in ids), "an odd acknowledgement", result)
    return set(ids)


class Store:
    """A data directory, driven through the command line."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def run(self, verb, *arguments, fault=None, data=None):
        runner = fault.run if fault else run
        return runner("store", verb, "--data", self.path, *arguments, data=data)

    def put(self, *files, in_place=False, fault=None, data=None):
        options = ["--in-place"] if in_place else []
        return self.run("put", *options, *files, fault=fault, data=data)

    def get(self, *ids, fault=None):
        return self.run("get", *ids, fault=fault)

    def rm(self, *ids, fault=None):
        return self.run("rm", *ids, fault=fault)

    def scrub(self, fault=None):
        return self.run("scrub", fault=fault)

    def damage(self, pieces):
        """The beginning of each of these blocks, wherever it lies; none begins as another one."""
        found = set()
        heads = {piece[:64] for piece in pieces}
        check(len(heads) == len(pieces), "blocks that begin alike")
        for segment in sorted((self.path / "segments").iterdir()):
            raw = segment.read_bytes()
            with segment.open("r+b") as out:
                for head in heads:
                    at = raw.find(head)
                    if at >= 0:
                        out.seek(at)
                        out.write(bytes(byte ^ 0x55 for byte in head))
                        found.add(head)
        check(found == heads, "not all blocks were there", len(found), len(heads))

    def listed(self):
        """{id: (length, blocks, state)} of every version that `ls` shows."""
        result = self.run("ls")
        check(result.status == 0, "ls fails", result)
        versions = {}
        for line in result.out.decode().splitlines():
            fields = line.split()
            check(len(fields) == 4, "an odd line of ls", line)
            check(fields[0] not in versions, "listed twice", line)
            versions[fields[0]] = (int(fields[1]), int(fields[2]), fields[3])
        return versions

    def verify(self, contents, must=(), must_not=(), scrub=True):
        """All that must be here is here, and all that is here is whole. Gives the ids that are
        listed as kept; the others wait for their collection.

        `contents` is {id: bytes} of everything that may be listed, `must` the ids acknowledged,
        `must_not` the ids whose removal was acknowledged.
        """
        listed = self.listed()
        kept = {each for each, (_, _, state) in listed.items() if state != "unreferenced"}
        for each in must:
            check(each in kept, f"lost: {each}, {len(contents[each])} bytes")
        for each, (length, _, _) in listed.items():
            check(each in contents, f"nobody put {each}")
            check(each not in must_not, f"removed, and here again: {each}")
            check(length == len(contents[each]), f"of wrong length: {each}")
        for batch in batches(sorted(listed), 200):
            result = self.get(*batch)
            check(result.status == 0, "listed, but get fails", result)
            check(result.out == b"".join(contents[each] for each in batch), "a wrong byte", *batch)
        if scrub:
            result = self.scrub()
            check(result.status == 0, "scrub finds damage", result)
        return kept


def batches(items, size):
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


# ---- running many cases -------------------------------------------------------------------------


class Cases(unittest.TestCase):
    """A test made of many small cases, which run side by side."""

    maxDiff = None

    def run_cases(self, cases, function):
        """function(case) for each; reports the first failures with the case that had them."""
        failures = []

        def one(case):
            if len(failures) >= 5:
                return
            try:
                function(case)
            except Exception as failure:  # whatever it is, it belongs to this case
                if not isinstance(failure, Failure):
                    failure = f"{type(failure).__name__}: {failure}"
                failures.append(f"[{case}]\n{failure}")

        begin = time.monotonic()
        count = 0
        room = threading.Semaphore(4 * JOBS)  # cases may be large, so they are made as needed
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for case in cases:
                if failures and len(failures) >= 5:
                    break
                room.acquire()
                pool.submit(one, case).add_done_callback(lambda _: room.release())
                count += 1
        seconds = time.monotonic() - begin
        print(f"{self.id().split('.', 1)[1]}: {count} cases, {seconds:.1f} s", flush=True)
        if failures:
            self.fail(f"seed {SEED}; the first {len(failures)}:\n\n" + "\n\n".join(failures))


def sample(items, count, key):
    """`items` if they are not more than `count`, else a seeded choice of them, in order."""
    items = list(items)
    if len(items) <= count:
        return items
    chosen = random.Random(f"{SEED} {key}").sample(range(len(items)), count)
    return [items[i] for i in sorted(chosen)]


def main():
    if BUILD == "fuzz":
        print("skipped: there is no libfault in this preset")
        return
    print(f"seed {SEED}: ARTEL_TEST_SEED={SEED} repeats it", flush=True)
    unittest.main(module="__main__")
