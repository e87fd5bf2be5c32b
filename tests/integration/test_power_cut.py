# SPDX-License-Identifier: Apache-2.0
"""The power goes at any point of a day's work; whatever the disk is left with opens and is whole.

A workload runs once with its system calls traced. At crash points all along the trace, states that
the disk may be in (power_cut.py) are written to a directory of their own and opened there.
"""

import random

import power_cut
from harness import *

STATES = 1200
# They are mapped and so not in the trace. LMDB makes its own anew; the other is for hints.
SKIP = ("data/index/lock.mdb", "data/touched")


class Workload:
    """Runs commands under the trace, and knows what each acknowledges."""

    def __init__(self, root):
        self.root = root / "disk"
        self.source = root / "source"
        self.trace = root / "trace"
        self.root.mkdir()
        self.source.mkdir()
        self.store = Store(self.root / "data")
        self.steps = []
        self.contents = {}
        self.paths = {}

    def run(self, verb, *arguments, adds=(), removes=()):
        """One command; marks in the trace say where it begins and ends."""
        number = len(self.steps)
        self.steps.append((verb, set(adds), set(removes)))
        power_cut.write_mark(self.trace, f"begin {number}")
        fault = Fault(self.root, trace=self.trace)
        result = self.store.run(verb, *arguments, fault=fault)
        check(result.status == 0, f"{verb} fails", result)
        power_cut.write_mark(self.trace, f"end {number}")
        return result

    def put(self, name, *contents, in_place=False):
        directory = self.source / name
        directory.mkdir()
        ids = []
        for i, data in enumerate(contents):
            (directory / str(i)).write_bytes(data)
            ids.append(file_id(data))
            self.paths[ids[-1]] = directory / str(i)
            self.contents[ids[-1]] = data
        options = ["--in-place"] if in_place else []
        result = self.run("put", *options, directory, adds=ids)
        check(acknowledged(result) == set(ids), "not all acknowledged", result)
        return ids

    def rm(self, ids):
        self.run("rm", *ids, removes=ids)

    def scrub(self):
        self.run("scrub")


def busy_day(workload):
    """Puts small and large, the same again, removes, collects, and goes on."""
    shared = content("shared", BLOCK_BYTES)
    first = workload.put("first", *(content(("first", i), 2000 * i) for i in range(4)))
    workload.put("large", content("large", 3 * BLOCK_BYTES + 77), shared + b"one")
    many = workload.put("many", *(content(("many", i), 1000 + 6000 * i) for i in range(24)))
    # Enough small blocks, and some between them that stay, for a segment to be ended early and
    # compacted.
    many += workload.put(
        "mixed", *(content(("mixed", i), 700 if i % 4 == 3 else 40 * KIB) for i in range(40))
    )
    again = workload.put("again", content(("many", 3), 19000), shared + b"two")
    workload.put("in-place", content("in place", 90 * KIB), in_place=True)
    kept = [each for each in many if len(workload.contents[each]) < 8000]
    workload.rm([each for each in many if each not in kept] + first[:1])
    workload.scrub()
    more = workload.put("more", *(content(("more", i), 30 * KIB) for i in range(6)))
    workload.rm(again[1:] + more[2:])
    workload.scrub()
    workload.scrub()
    workload.put("last", content("last", 70 * KIB), content("tiny", 10))


class Promises:
    """What holds at a crash point: fed with the records in order, as the disk is."""

    def __init__(self, workload):
        self.steps = workload.steps
        self.must = set()
        self.maybe = set()
        self.ever = False  # something was acknowledged

    def feed(self, record):
        if record.kind == power_cut.OUTPUT:
            for line in record.data.splitlines():
                name = line.split()[0].decode()
                if re.fullmatch("[0-9a-f]{64}", name) and name in self.adds:
                    self.must.add(name)
                    self.maybe.discard(name)
                    self.ever = True
        if record.kind != power_cut.MARK:
            return
        what, number = record.data.decode().split()
        verb, adds, removes = self.steps[int(number)]
        if what == "begin":
            self.adds = adds
            self.maybe |= (adds - self.must) | (removes & self.must)
            self.must -= removes
        else:
            check(adds <= self.must, f"{verb}: acknowledgements are missing in the trace")
            self.maybe -= removes


@dataclasses.dataclass
class State:
    """A drawn state and what it must hold."""

    name: str
    files: dict
    must: frozenset
    maybe: frozenset
    ever: bool

    def __str__(self):
        return self.name


class PowerCut(Cases):
    def run_workload(self, root, work):
        workload = Workload(root)
        work(workload)
        records = power_cut.read_trace(workload.trace)
        disk = self.new_disk(workload)
        for record in records:
            disk.feed(record)
        # If the program did something that libfault did not see, this is where it shows.
        different = power_cut.differences(
            disk.draw(power_cut.Everything()), workload.root, skip=SKIP
        )
        check(not different, "the trace does not explain these files", *different)
        workload.store.verify(workload.contents, scrub=False)
        return workload, records

    def draw_states(self, workload, records, count, all_shapes):
        """About `count` different states, from all points of the trace where something is on its
        way: the fixed shapes at some (or all), and more random ones where more is open."""
        rng = random.Random(f"power cut {SEED}")
        disk = self.new_disk(workload)
        pending = []
        for record in records:
            disk.feed(record)
            pending.append(len(disk.pending()))
        total = sum(pending)
        # A third of them are the fixed shapes, at points drawn for all five.
        fixed = 1 if all_shapes else count / 15 / len(records)
        disk = self.new_disk(workload)
        promises = Promises(workload)
        seen = set()
        for i, record in enumerate(records):
            disk.feed(record)
            promises.feed(record)
            wanted = count * 2 / 3 * pending[i] / total
            random_count = int(wanted) + (rng.random() < wanted % 1)
            choices = disk.random_choices(rng, random_count)
            if rng.random() < fixed:
                choices = disk.shapes() + choices
            for number, choice in enumerate(choices):
                files = disk.draw(choice)
                must, maybe = frozenset(promises.must), frozenset(promises.maybe)
                key = (power_cut.digest(files), must, maybe)
                if key in seen:
                    continue
                seen.add(key)
                name = f"record {i + 1} of {len(records)}, {choice.name} {number}"
                yield State(name, files, must, maybe, promises.ever)

    def new_disk(self, workload):
        return power_cut.Disk(workload.root.stat().st_ino)

    def check_state(self, workload, state):
        with temp_dir() as root:
            power_cut.materialise(state.files, root, skip=SKIP)
            store = Store(root / "data")
            possible = {
                each: workload.contents[each] for each in state.must | state.maybe
            }
            if state.ever:
                listed = store.verify(possible, state.must)
            else:
                listing = store.run("ls") if store.path.exists() else None
                if listing and listing.status == 0:
                    store.verify(possible)
                elif listing:
                    check(listing.status == 1 and listing.err.strip(), "no clear error", listing)
                listed = set()
            # What did not make it goes in again, and something new.
            new = root / "new"
            new.write_bytes(b"new after the crash")
            again = {file_id(b"new after the crash"): new}
            for each in sorted(state.maybe - listed)[:4]:
                again[each] = workload.paths[each]
            result = store.put(*again.values())
            check(result.status == 0, "put does not work again", result)
            check(acknowledged(result) == set(again), "not all acknowledged", result)
            possible |= {each: path.read_bytes() for each, path in again.items()}
            store.verify(possible, state.must | set(again))

    def sweep(self, work, count, all_shapes=False):
        with temp_dir() as root:
            workload, records = self.run_workload(root, work)
            states = self.draw_states(workload, records, count, all_shapes)
            print(f"{len(records)} records in the trace", flush=True)
            self.run_cases(states, lambda state: self.check_state(workload, state))

    def test_states_after_a_power_cut(self):
        self.sweep(busy_day, scaled(STATES))

    def test_states_while_a_store_is_made(self):
        def work(workload):
            workload.put("first", content("first", 3000))

        self.sweep(work, scaled(STATES // 5), all_shapes=True)

    def test_external_files_are_synced_before_the_acknowledgement(self):
        """A file that is served from where it lies is durable too, not just its name here."""
        with temp_dir() as root:
            workload = Workload(root)
            source = workload.root / "source"
            data = content("external", 100 * KIB)
            source.write_bytes(data)
            workload.run("put", "--in-place", source, adds=[file_id(data)])
            synced = set()
            for record in power_cut.read_trace(workload.trace):
                if record.kind in (power_cut.SYNC, power_cut.SYNC_ALL):
                    synced.add(record.inode)
                if record.kind == power_cut.OUTPUT:
                    self.assertIn(source.stat().st_ino, synced)
                    return
            self.fail("no acknowledgement in the trace")


if __name__ == "__main__":
    main()
