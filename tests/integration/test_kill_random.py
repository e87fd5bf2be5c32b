# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments of random work, thousands of times on the same data directories.

A model keeps what was acknowledged. After each kill the directory must hold all of that, whole, and
nothing by half. Each lane is one data directory with its own seed, so a failure repeats alone.
"""

import random

from harness import *

LANES = 4
ROUNDS = 1200  # all lanes together
FILES_MAX = 60  # held at once; more are removed again


class Lane:
    """A data directory, a model of it, and a seeded source of trouble."""

    def __init__(self, root, seed):
        self.root = root
        self.seed = seed
        self.random = random.Random(f"kill-random {seed}")
        self.store = Store(root / "data")
        self.source = root / "source"
        self.source.mkdir()
        self.contents = {}  # of all ids that may be listed
        self.held = set()  # acknowledged, and no removal begun
        self.maybe = set()  # neither acknowledged nor surely gone
        self.round = 0
        self.kills = 0
        self.log = []

    def __str__(self):
        return f"lane {self.seed} round {self.round}: " + "; ".join(self.log[-6:])

    # -- one round

    def step(self):
        self.round += 1
        verb = self.random.choices(["put", "rm", "scrub"], [6, 3, 1])[0]
        if not self.held:
            verb = "put"  # only that makes a store
        if verb == "put" and len(self.held) > FILES_MAX:
            verb = "rm"
        getattr(self, verb)()
        # The whole of it every few rounds, and what was touched each time.
        self.verify(scrub=self.random.random() < 0.2)

    def put(self):
        sources, adds = [], {}
        for i in range(self.random.choice([1, 1, 2, 5, 12])):
            data = self.new_content()
            path = self.source / f"{self.round}-{i}"
            path.write_bytes(data)
            sources.append(path)
            adds[file_id(data)] = data
        self.contents |= adds
        if self.random.random() < 0.3:
            # As a tree of directories.
            sources = [self.source]
        result = self.disturbed("put", *sources)
        self.acknowledge(result, adds)
        for path in self.source.iterdir():
            path.unlink()

    def acknowledge(self, result, adds):
        new = acknowledged(result)
        check(new <= set(adds), "acknowledges what nobody put", result)
        if result.status == 0:
            check(new == set(adds), "not all acknowledged", result)
        self.held |= new
        self.maybe = (self.maybe | set(adds)) - self.held

    def rm(self):
        count = self.random.choice([1, 2, 5, len(self.held)])
        ids = self.random.sample(sorted(self.held), min(count, len(self.held)))
        self.held -= set(ids)
        result = self.disturbed("rm", *ids)
        if result.status == 0:
            for each in ids:
                self.maybe.discard(each)
                del self.contents[each]
        else:
            self.maybe |= set(ids)

    def scrub(self):
        self.disturbed("scrub")

    # -- the trouble

    def disturbed(self, verb, *arguments):
        """Runs a command and kills it: at a call, after a time, or not at all."""
        way = self.random.choice(["call", "call", "time", "time", "none"])
        reader = self.start_reader() if self.random.random() < 0.25 else None
        command = ["store", verb, "--data", self.store.path, *arguments]
        if way == "call":
            call_class = self.random.choice(["any", "any", "write", "sync"])
            action = self.random.choice(["kill", "kill-after", "kill-torn"])
            at = int(60 ** self.random.random())  # most commands make few calls
            fault = Fault(self.root, call_class, at, action)
            self.log.append(f"{verb} {fault}")
            result = fault.run(*command)
        else:
            limit = self.random.uniform(0, 0.2 if SANITIZED else 0.015)
            self.log.append(f"{verb} {'killed after %.4f s' % limit if way == 'time' else ''}")
            process = start(*command)
            if way == "time":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(limit)
                process.kill()
            result = finish(process)
        self.kills += result.status == -9
        check(result.status in (0, -9), "fails without a fault", result)
        if reader:
            self.finish_reader(reader)
        return result

    def start_reader(self):
        """A get of something held, while the writer is at work and dies."""
        if not self.held:
            return None
        ids = self.random.sample(sorted(self.held), min(3, len(self.held)))
        return ids, start("store", "get", "--data", self.store.path, *ids)

    def finish_reader(self, reader):
        ids, process = reader
        result = finish(process)
        check(result.status == 0, "a reader beside the writer fails", result)
        whole = b"".join(self.contents[each] for each in ids)
        check(result.out == whole, "a reader beside the writer gets wrong bytes", *ids)

    def verify(self, scrub):
        if not self.held and not self.store.path.exists():
            return
        if not self.held:
            # Before the first acknowledgement there may be no store yet; a put makes one.
            self.put_undisturbed()
        kept = self.store.verify(self.contents, self.held, scrub=scrub)
        check(kept <= self.held | self.maybe, "removed, and here again")
        # What is here now was committed: it may not go away any more.
        self.held |= kept
        self.maybe -= kept

    def put_undisturbed(self):
        data = self.new_content()
        result = self.store.put("-", data=data)
        check(result.status == 0, "put does not work again", result)
        self.contents[file_id(data)] = data
        self.acknowledge(result, {file_id(data): data})

    def new_content(self):
        kind = self.random.random()
        salt = (self.seed, self.random.random())
        if kind < 0.6:
            return content(salt, self.random.randrange(0, 20 * KIB))
        if kind < 0.9:
            return content(salt, self.random.randrange(0, 400 * KIB))
        # Blocks of a small stock: files share them.
        stock = [content(("stock", i), BLOCK_BYTES) for i in range(4)]
        return b"".join(self.random.choices(stock, k=self.random.randrange(1, 5)))


class KillRandom(Cases):
    def test_random_kills(self):
        rounds = scaled(ROUNDS, sanitized=0.05) // LANES + 1

        def run_lane(seed):
            with temp_dir() as root:
                lane = Lane(root, seed)
                lanes.append(lane)
                try:
                    for _ in range(rounds):
                        lane.step()
                    lane.put_undisturbed()
                    lane.verify(scrub=True)
                except Failure as failure:
                    raise Failure(f"{lane}\n{failure}") from None

        lanes = []
        self.run_cases([SEED + i for i in range(LANES)], run_lane)
        kills = sum(lane.kills for lane in lanes)
        print(f"{rounds * LANES} rounds, {kills} kills")
        self.assertGreater(kills, rounds * LANES // 10, "hardly anything was killed")


class StartUp(Cases):
    def test_calls_at_start_do_not_depend_on_data(self):
        """Opening makes the same system calls however much is held (also after a kill)."""
        with temp_dir() as root:
            counts = {}
            for name, files in (("small", 5), ("large", scaled(2000))):
                store = Store(root / name)
                source = root / f"source-{name}"
                source.mkdir()
                for i in range(files):
                    (source / str(i)).write_bytes(content((name, i), 5000))
                check(store.put(source).status == 0, "put fails")
                for ending in ("clean", "killed"):
                    if ending == "killed":
                        (root / "one").write_bytes(content((name, ending), 300 * KIB))
                        Fault(root, "sync", 1, "kill").run(
                            "store", "put", "--data", store.path, root / "one"
                        )
                    fault = Fault(store.path)
                    result = store.run("status", "--json", fault=fault)
                    check(result.status == 0, "status fails", result)
                    data = content((name, "last", ending), 100)
                    put = Fault(store.path)
                    check(store.put("-", fault=put, data=data).status == 0, "put fails")
                    counts[name, ending] = (fault.counts, put.counts)
            print(counts)
            for ending in ("clean", "killed"):
                for small, large in zip(counts["small", ending], counts["large", ending]):
                    for each in ("read", "write", "open", "sync", "create", "truncate"):
                        # The index is deeper, so a commit writes a few more pages of it; and
                        # LMDB is opened again if there was no room for its map.
                        more = 20 if each == "write" else 6
                        check(
                            large[each] <= small[each] + more,
                            f"{each} at start grows with the data ({ending})",
                            small,
                            large,
                        )


if __name__ == "__main__":
    main()
