# SPDX-License-Identifier: Apache-2.0
"""Each call that a node makes to the system fails or is its last, one after the other.

A node in a program of its own (tests/fault/node_work.c) publishes, replaces, renames and deletes
files and directories, one in one step, and takes content as from other nodes, in segments so short
that they roll over and are compacted. The same is done again for each n, each class of calls and
each action of libfault, on a fresh copy of the same data directory. After each the directory is
opened without a fault: what was acknowledged is there and whole, what was not is there whole or not
at all, every byte is what its id says, the fingerprint is that of the entries, no segment is
forgotten, and work goes on.

All of it is some thousands of cases; ARTEL_TEST_SCALE=100 runs them all (some minutes). With less,
each run takes every so many cases from an offset that the seed gives.
"""

import errno
import json
import random

import harness
from harness import Cases, Fault, Store, check, content, copy_tree, file_id, run, temp_dir
from trees import tar_of

WORK = harness.BUILD_DIR / "tests" / "node_work"
KIB = 1024
SEGMENT_BYTES = 64 * KIB
# Of each list of cases, in a release build at scale 1.
CASES = 100

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
    "truncate": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC), ("fail-from", errno.ENOSPC)],
    "punch": KILLS + [("fail", errno.EIO), ("fail", errno.EOPNOTSUPP)],
    "rename": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC)],
    "unlink": KILLS + [("fail", errno.EIO)],
    "create": KILLS + [("fail", errno.EIO), ("fail", errno.ENOSPC), ("fail-from", errno.EMFILE)],
    "open": [("fail", errno.EIO), ("fail", errno.EMFILE), ("fail-from", errno.EMFILE)],
    "read": [("fail", errno.EIO), ("short", 0)],
    "map": [("fail", errno.ENOMEM), ("fail-from", errno.ENOMEM)],
}

# A failure of one of these may not be overlooked.
STRICT = ("write", "sync", "rename")


# ---- the work, and what it makes ----------------------------------------------------------------


class Tree:
    """What a node shows: files by path, and the directories that somebody made."""

    def __init__(self, files=(), directories=()):
        self.files, self.directories = dict(files), set(directories)

    def key(self):
        return (frozenset(self.files.items()), frozenset(self.directories))

    def put(self, path, data):
        return Tree(self.files | {path: file_id(data)}, self.directories)

    def mkdir(self, path):
        return Tree(self.files, self.directories | {path})

    def without(self, top):
        files = {path: name for path, name in self.files.items() if not inside(path, top)}
        return Tree(files, (each for each in self.directories if not inside(each, top)))

    def rename(self, top, to):
        if not any(inside(path, top) for path in [*self.files, *self.directories]):
            return self
        left = self.without(top)
        moved = {
            to + path[len(top) :]: name for path, name in self.files.items() if inside(path, top)
        }
        directories = {to + each[len(top) :] for each in self.directories if inside(each, top)}
        return Tree(left.files | moved, left.directories | directories)

    def atomic(self, top, files):
        left = self.without(top)
        below = {f"{top}/{name}": file_id(data) for name, data in files.items()}
        return Tree(left.files | below, left.directories | {top})

    def merge(self, top, files):
        below = {f"{top}/{name}": file_id(data) for name, data in files.items()}
        return Tree(self.files | below, self.directories)


def inside(path, top):
    return path == top or path.startswith(top + "/")


class Step:
    """One command: its line, the bytes of its source, what it makes of a tree."""

    def __init__(self, verb, *words, source=None, effect=None):
        self.verb, self.words, self.source = verb, words, source
        self.effect = effect or (lambda tree: tree)

    def line(self, root, number):
        words = [self.verb, *self.words]
        if self.source is not None:
            path = root / f"source-{number}"
            path.write_bytes(self.source)
            words.append(str(path))
        return " ".join(words)


def put(path, size, seed=0):
    data = content((path, seed), size)
    return Step("put", path, source=data, effect=lambda tree: tree.put(path, data))


def directory(verb, top, files):
    return Step(
        verb, top, source=tar_of(files), effect=lambda tree: getattr(tree, verb)(top, files)
    )


def mkdir(path):
    return Step("mkdir", path, effect=lambda tree: tree.mkdir(path))


def rename(path, to):
    return Step("rename", path, to, effect=lambda tree: tree.rename(path, to))


def delete(path):
    return Step("delete", path, effect=lambda tree: tree.without(path))


def take(size):
    data = content("taken", size)
    return Step(
        "take",
        source=data,
        effect=lambda tree: Tree(
            tree.files | {f"taken/{file_id(data)}": file_id(data)}, tree.directories
        ),
    )


def leave(size):
    return Step("leave", source=content("left", size))


FORGET = Step("forget")
VERIFY = Step("verify")
ACCOUNT = Step("account")

SMALL = {f"{i % 3}/{i:02}": content(("small", i), 2500 + 100 * i) for i in range(30)}
SOME = {name: data for name, data in SMALL.items() if int(name[-2:]) % 5 == 0}
OTHER = {f"other/{i}": content(("other", i), 9000 + i) for i in range(4)}

# What is there before.
BEFORE = [
    put("base/a", 70 * KIB),
    put("base/b", 5000),
    put("base/sub/c", 1000),
    directory("atomic", "packed", SMALL),
    put("gone", 30 * KIB),
    delete("gone"),
]
# Of each kind of change at least one; segments roll over at put and atomic, and the history and
# with it most of `packed` goes, so that segments are unlinked, punched and compacted.
WORKLOAD = [
    put("one", 5000),
    put("large", 200 * KIB),
    put("base/a", 90 * KIB, seed=1),
    delete("base/b"),
    mkdir("empty"),
    rename("base", "moved"),
    directory("atomic", "packed", SOME | OTHER),
    directory("merge", "loose", OTHER | {"late": content("late", 40 * KIB)}),
    FORGET,
    take(600 * KIB),
    leave(600 * KIB),
    rename("one", "moved/sub/one"),
    delete("moved/sub"),
    put("last", 20 * KIB),
    VERIFY,
]
FIRST = [put("one", 5000), directory("atomic", "packed", OTHER), take(300 * KIB), FORGET, VERIFY]

SCENARIOS = {"first": ([], FIRST), "later": (BEFORE, WORKLOAD)}


def script(root, steps):
    return "".join(step.line(root, i) + "\n" for i, step in enumerate(steps, 1)).encode()


def work(root, steps, fault=None):
    """Runs the steps; gives the result and {number: whether it was done} as far as it was told."""
    runner = fault.run if fault else run
    result = runner(
        root / "data", SEGMENT_BYTES, data=script(root, steps), program=WORK
    )
    told = {}
    for line in result.out.decode().split("\n")[:-1]:
        words = line.split()
        if words[0] in ("ok", "failed"):
            told[int(words[1])] = words[0] == "ok"
    return result, told


def shown(result):
    """The tree that `verify` printed."""
    tree = Tree()
    for line in result.out.decode().splitlines():
        words = line.split()
        if words[0] == "file":
            tree.files[words[1]] = words[2]
        elif words[0] == "directory":
            tree.directories.add(words[1])
    return tree


# ---- cases --------------------------------------------------------------------------------------


class Case:
    """One fault in one scenario, in its own directory."""

    def __init__(self, sweep, scenario, call_class, at, action, error):
        self.sweep, self.scenario = sweep, scenario
        self.fault_values = (call_class, at, action, error)

    def __str__(self):
        return f"{self.scenario}: {Fault('', *self.fault_values)}"

    def run(self):
        before, steps = SCENARIOS[self.scenario]
        with temp_dir() as root:
            copy_tree(self.sweep.templates / self.scenario, root)
            fault = Fault(root / "data", *self.fault_values)
            result, told = work(root, steps, fault)
            try:
                self.check_result(fault, result, told, len(steps))
                self.check_directory(root, steps, told)
            except harness.Failure as failure:
                raise harness.Failure(f"{failure}\n-- after:\n{result}") from None

    def check_result(self, fault, result, told, last):
        call_class, _, action, _ = self.fault_values
        failed = fault.struck and action in ("fail", "fail-from")
        if result.status == 0:
            check(told and all(told.values()), "not all done, and no failure")
            # Tidying up after the last answer may fail, but not in silence.
            overlooked = failed and call_class in STRICT and not result.err.strip()
            check(not overlooked, "the failure was overlooked")
        elif action.startswith("kill"):
            check(fault.struck and result.status == -9, "not killed, but failed")
        else:
            check(fault.struck, "fails without a fault")
            check(result.status == 1, "an odd exit status")
            check(not all(told.values()), "failed, and nothing is told")
            if call_class in ("write", "sync") and told.get(0):
                check(told[last], "a disk that can't be written can't be read")

    def possible(self, steps, told):
        """The trees that there may be now, by their keys."""
        before = Tree()
        for step in SCENARIOS[self.scenario][0]:
            before = step.effect(before)
        trees = {before.key(): before}
        for number, step in enumerate(steps, 1):
            after = {}
            for tree in trees.values():
                made = step.effect(tree)
                after[made.key()] = made
            # Not told: killed at it, or it was never begun.
            trees = after if told.get(number) else trees | after
            if number not in told:
                break
        return trees

    def check_directory(self, root, steps, told):
        trees = self.possible(steps, told)
        again, _ = work(root, [VERIFY, ACCOUNT])
        check(again.status == 0, "what is there is not whole", again)
        found = shown(again)
        check(found.key() in trees, "a tree that can't be", again, sorted(told.items()))
        # Work goes on, and what the fault left behind is given back.
        more = [put("more", 3000), directory("atomic", "packed", OTHER), FORGET, VERIFY, ACCOUNT]
        after, _ = work(root, more)
        check(after.status == 0, "work does not go on", after)
        for step in more:
            found = step.effect(found)
        check(shown(after).key() == found.key(), "another tree than was made", after)
        scrubbed = Store(root / "data").scrub()
        check(scrubbed.status == 0, "scrub finds damage", scrubbed)


def stride(cases, count, key):
    """Every so many of `cases`, so that there are some `count`; where it begins, the seed says."""
    step = max(1, -(-len(cases) // count))
    return cases[random.Random(f"{harness.SEED} {key}").randrange(step) :: step]


class NodeFaults(Cases):
    @classmethod
    def setUpClass(cls):
        scratch = temp_dir()
        cls.templates = scratch.__enter__()
        cls.addClassCleanup(scratch.__exit__, None, None, None)
        for name, (before, _) in SCENARIOS.items():
            root = cls.templates / name
            root.mkdir()
            if before:
                result, told = work(root, before)
                check(result.status == 0 and all(told.values()), "a plain run fails", result)

    def undisturbed(self, scenario):
        """How many calls of each class there are; everything is as the model says."""
        before, steps = SCENARIOS[scenario]
        with temp_dir() as root:
            copy_tree(self.templates / scenario, root)
            fault = Fault(root / "data", "any", 10**9, "fail")
            result, told = work(root, steps, fault)
            check(result.status == 0 and all(told.values()), "fails without a fault", result)
            check(set(told) == set(range(len(steps) + 2)), "not all is told", result)
            tree = Tree()
            for step in [*before, *steps]:
                tree = step.effect(tree)
            check(shown(result).key() == tree.key(), "another tree", result, sorted(tree.files))
            if before:
                check(b"moved 0\n" not in result.out, "nothing was compacted", result)
                check(fault.counts["punch"] and fault.counts["unlink"], "nothing was given back")
            return fault.counts

    def sweep(self, scenario, classes):
        counts = self.undisturbed(scenario)
        print(scenario, json.dumps({each: counts[each] for each in classes}), flush=True)
        cases = [
            Case(self, scenario, call_class, at, action, error)
            for call_class in classes
            # Threads may make a call or two more the next time.
            for at in range(1, counts[call_class] + 2 if counts[call_class] else 1)
            for action, error in ACTIONS[call_class]
        ]
        chosen = stride(cases, harness.scaled(CASES), (scenario, classes))
        print(f"{len(chosen)} of {len(cases)} cases", flush=True)
        self.run_cases(chosen, Case.run)

    def test_first_start(self):
        self.sweep("first", tuple(ACTIONS))

    def test_writes(self):
        self.sweep("later", ("write",))

    def test_syncs(self):
        self.sweep("later", ("sync", "truncate", "punch"))

    def test_names(self):
        self.sweep("later", ("rename", "unlink", "create", "open"))

    def test_reads(self):
        self.sweep("later", ("read", "map"))


if __name__ == "__main__":
    harness.main()
