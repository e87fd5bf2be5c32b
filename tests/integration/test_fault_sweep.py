# SPDX-License-Identifier: Apache-2.0
"""Each call that an operation makes to the system fails or is its last, one after the other.

For every operation and class of calls, the operation is run once to count its calls, then once for
each n and each action on a fresh copy of the same data directory. Afterwards the directory is
opened as it is: what was acknowledged is there and whole, nothing is there by half, and the
operation done again succeeds.
"""

import dataclasses
import errno
import os

from harness import *

MANY = 10**9

# What to do at the n-th call: (action, errno). A failure of a strict class may not be overlooked.
KILLS = [("kill", 0), ("kill-after", 0)]
ACTIONS = {
    "write": KILLS
    + [
        ("kill-torn", 0),
        ("fail", errno.EIO),
        ("fail", errno.ENOSPC),
        ("fail-from", errno.ENOSPC),
        ("short", 0),
    ],
    "sync": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC), ("fail-from", errno.EIO)],
    "truncate": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC)],
    "punch": KILLS + [("fail", errno.EIO), ("fail", errno.EOPNOTSUPP)],
    "rename": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC)],
    "unlink": KILLS + [("fail", errno.EIO)],
    "create": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC)],
    "open": [("fail", errno.EIO), ("fail", errno.EMFILE)],
    "read": [("fail", errno.EIO), ("short", 0)],
    "alloc": [("fail", errno.ENOMEM)],
}
STRICT = ("write", "sync", "truncate", "rename")


def name_all(*contents):
    return {file_id(data): data for data in contents}


# What is in the directory before, and what comes.
SHARED = content("shared block", BLOCK_BYTES)
HELD = name_all(
    content("held small", 5000),
    content("held medium", 100 * KIB),
    SHARED + content("held large", 300 * KIB),
    content("held sector", 512),
    *(content(("held between", i), 700) for i in range(8)),
    b"",
)
COMING = name_all(
    *(content(("coming", i), 3000 + 4000 * i) for i in range(5)),
    content("coming medium", 70 * KIB),
    content("coming large", 2 * BLOCK_BYTES + 1234),
    SHARED + content("coming shared", 1000),
)
# Enough small blocks that a segment is ended early and compacted when they are gone.
DOOMED = name_all(
    *(content(("doomed", i), 60 * KIB) for i in range(20)),
    *(content(("doomed large", i), 100 * KIB) for i in range(3)),
)
EVERYTHING = HELD | COMING | DOOMED


def write_sources(directory, contents):
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        path = directory / name[:16]
        if not path.exists():  # an external file that is written again is another one
            path.write_bytes(data)
    return sorted(directory.iterdir())


@dataclasses.dataclass
class Operation:
    """One command line, and what it may change."""

    name: str
    template: str  # the directory that it begins with
    verb: str
    adds: dict = dataclasses.field(default_factory=dict)
    removes: dict = dataclasses.field(default_factory=dict)
    gets: dict = dataclasses.field(default_factory=dict)

    def arguments(self, root):
        if self.verb == "put":
            sources = write_sources(root / "source", self.adds)
            return ["store", "put", "--data", root / "data", *sources]
        if self.verb == "put --in-place":
            sources = write_sources(root / "source", self.adds)
            return ["store", "put", "--data", root / "data", "--in-place", *sources]
        ids = self.removes if self.verb == "rm" else self.gets
        return ["store", self.verb, "--data", root / "data", *ids]


OPERATIONS = [
    Operation("create", "nothing", "put", adds=COMING),
    Operation("put", "held", "put", adds=COMING),
    Operation("put_again", "held", "put", adds=HELD),
    Operation("put_after_crash", "crashed", "put", adds=COMING),
    Operation("put_in_place", "held", "put --in-place", adds=COMING),
    Operation("rm", "full", "rm", removes=DOOMED),
    Operation("scrub", "removed", "scrub", removes=DOOMED),
    Operation("get", "held", "get", gets=HELD),
    Operation("ls", "held", "ls"),
]
# What the templates hold: the ids that were acknowledged.
TEMPLATES = {
    "nothing": {},
    "held": HELD,
    "crashed": HELD,
    "full": HELD | DOOMED,
    "removed": HELD,
}


class Case:
    """One fault in one operation, in its own directory."""

    def __init__(self, sweep, operation, call_class, at, action, error):
        self.sweep = sweep
        self.operation = operation
        self.fault_values = (call_class, at, action, error)

    def __str__(self):
        fault = Fault("", *self.fault_values)
        return f"{self.operation.name}: {fault}"

    def run(self):
        with temp_dir() as root:
            copy_tree(self.sweep.templates / self.operation.template, root)
            fault = Fault(root, *self.fault_values)
            arguments = self.operation.arguments(root)
            result = fault.run(*arguments)
            try:
                self.check_result(fault, result)
                self.check_directory(Store(root / "data"), result)
            except Failure as failure:
                raise Failure(f"{failure}\n-- after:\n{result}") from None

    def check_result(self, fault, result):
        """The program says what happened, and never calls a failure a success."""
        call_class, _, action, _ = self.fault_values
        whole = b"".join(self.operation.gets.values())
        if result.status == 0:
            # Tidying up after the last answer may fail, but not in silence.
            failed = fault.struck and action in ("fail", "fail-from") and call_class in STRICT
            check(not failed or result.err.strip(), "the failure was overlooked")
            if self.operation.verb == "get":
                check(result.out == whole, "get gives wrong bytes")
            if self.operation.adds:
                check(acknowledged(result) == set(self.operation.adds), "not all acknowledged")
            return
        if self.operation.verb == "get":
            check(whole.startswith(result.out), "get gives wrong bytes")
        check(fault.struck, "fails without a fault")
        if action.startswith("kill"):
            check(result.status == -9, "not killed, but failed")
            return
        if call_class == "alloc" and result.status in (-6, -11):
            # Ours say out_of_memory. Two libraries end the process without a word: libuv aborts
            # when it can't start its pool, glibc's fts_open() does not look at what it got. What
            # counts is checked next: nothing is lost.
            return
        check(result.err.strip(), "fails without a message")
        check(result.status == 1, "an odd exit status")

    def check_directory(self, store, result):
        operation = self.operation
        before = TEMPLATES[operation.template]
        contents = before | operation.adds | operation.removes
        new = acknowledged(result) if operation.adds else set()
        check(new <= set(operation.adds), "acknowledges what nobody put")
        must = (set(before) - set(operation.removes)) | new
        must_not = operation.removes if result.status == 0 else ()
        if operation.template == "nothing" and not new:
            # Nothing is promised yet, but for a way on: an empty store or a clear error.
            listing = store.run("ls")
            if listing.status != 0:
                check(listing.status == 1 and listing.err.strip(), "no clear error", listing)
            else:
                store.verify(contents)
        else:
            store.verify(contents, must, must_not)
        self.check_again(store, contents, must)

    def check_again(self, store, contents, must):
        """The same once more, without a fault."""
        operation = self.operation
        again = run(*operation.arguments(store.path.parent))
        if operation.verb == "rm" and again.status == 1:
            # Some are gone already; those that are left can be removed.
            left = sorted(set(store.listed()) & set(operation.removes))
            again = store.rm(*left) if left else store.run("ls")
        check(again.status == 0, "does not work again", again)
        if operation.adds:
            check(acknowledged(again) == set(operation.adds), "not all acknowledged", again)
        must = (set(must) | set(operation.adds)) - set(operation.removes)
        store.verify(contents, must, operation.removes)


class FaultSweep(Cases):
    @classmethod
    def setUpClass(cls):
        cls.scratch = temp_dir()
        cls.templates = cls.scratch.__enter__()
        cls.addClassCleanup(cls.scratch.__exit__, None, None, None)
        for name in TEMPLATES:
            cls.make_template(name, cls.templates / name)

    @classmethod
    def make_template(cls, name, root):
        root.mkdir()
        if name == "nothing":
            return
        store = Store(root / "data")
        contents = TEMPLATES[name] | (DOOMED if name == "removed" else {})
        result = store.put(*write_sources(root / "source", contents))
        check(result.status == 0, "a plain put fails", result)
        if name == "removed":
            # The removal is committed, and nothing is given back yet.
            at = 0
            while store.verify(EVERYTHING, TEMPLATES[name], scrub=False) & set(DOOMED):
                at += 1
                store.rm(*DOOMED, fault=Fault(root, "sync", at, "kill-after"))
        if name == "crashed":
            # Blocks are written and nothing names them yet.
            sources = write_sources(root / "source", DOOMED)
            fault = Fault(root, "sync", 1, "kill")
            fault.run("store", "put", "--data", store.path, *sources)
        store.verify(EVERYTHING, TEMPLATES[name], scrub=False)
        shutil.rmtree(root / "source")

    def count(self, operation, call_class):
        """How many calls of each class an undisturbed run makes."""
        with temp_dir() as root:
            copy_tree(self.templates / operation.template, root)
            fault = Fault(root, call_class, MANY, "fail")
            result = fault.run(*operation.arguments(root))
            check(result.status == 0, f"{operation.name} fails without a fault", result)
            return fault.counts

    def sweep(self, operation, classes, limit):
        counts = self.count(operation, classes[0])
        print(operation.name, {each: counts[each] for each in classes}, flush=True)
        cases = []
        for call_class in classes:
            ways = ACTIONS[call_class]
            # Threads may make a call or two more the next time.
            numbers = range(1, counts[call_class] + 2 if counts[call_class] else 1)
            every = [
                Case(self, operation, call_class, at, action, error)
                for at in numbers
                for action, error in ways
            ]
            cases += sample(every, scaled(limit), (operation.name, call_class))
        self.run_cases(cases, Case.run)


def add_tests():
    """One test method for each operation, so that each is named when it fails."""
    changing = ["write", "sync", "truncate", "punch", "rename", "unlink", "create"]
    for operation in OPERATIONS:

        def test_calls(self, operation=operation):
            self.sweep(operation, [*changing, "open", "read"], limit=50)

        def test_allocations(self, operation=operation):
            if SANITIZED:
                self.skipTest("a sanitizer brings its own allocator")
            self.sweep(operation, ["alloc"], limit=40)

        setattr(FaultSweep, f"test_calls_{operation.name}", test_calls)
        setattr(FaultSweep, f"test_allocations_{operation.name}", test_allocations)


add_tests()

if __name__ == "__main__":
    main()
