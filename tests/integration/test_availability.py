# SPDX-License-Identifier: Apache-2.0
"""What the reachable nodes have together, each of them gets, whoever is lost.

Blocks of many files are scattered over real nodes in three zones: some hold all of a file, or what a
damaged disk has left of it, some have the same blocks in other files, some were cut off while they
fetched. Then, round after round, nodes are killed, whole zones too, lose what they were told of
others, and are cut off from each other. In each part of the network every node asks for files that
nobody asked for before. An oracle looks into each node by itself, and says what must come:

1. If the nodes of a part have all blocks together, and one of them the list, each gets the file.
2. If a block is with none of them, each hears that the content is not to be had, or gets no more
   than its beginning; all nodes that could not be asked are named, and none of those that could.
3. When all are back, everything is fetched everywhere.

In a network namespace of its own, as test_network.py; without root or user namespaces nobody is cut
off.
"""

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import unittest

import harness
import test_network
from harness import (BLOCK_BYTES, KIB, MIB, SANITIZED, SEED, Store, check, content, file_id,
                     scaled, temp_dir, wait_for)
from node import Answer, Node
from test_chaos import Cuts, address
from test_fetch import why
from test_where import where
from trees import SOON_S, put, wait_on, wait_same

HAS_NAMESPACE = test_network.INSIDE in os.environ
ZONES = 3
COUNT = 6 if SANITIZED else 9
FILES_A_ROUND = 2 if SANITIZED else 5
# What one of them gives, so that fetches from it can be cut off in the middle.
SLOW_RATE = 2 * MIB
SLOW_BYTES = 6 * MIB
BROKEN_OFF = -1


class Member(Node):
    def __init__(self, root, number, addresses, *options):
        self.name, self.number, self.at = f"n{number}", number, addresses[number]
        self.zone = f"z{number % ZONES}"
        others = [each for each in addresses if each != self.at]
        super().__init__(pathlib.Path(root) / self.name, "--listen", self.at, "--insecure",
                         "--name", self.name, "--zone", self.zone, "--scrub-rate", "0",
                         "--join", ",".join(others[:3]), *options)
        self.address = (self.at.split(":")[0], int(self.at.split(":")[1]))

    def __repr__(self):
        return self.name

    def states(self):
        answer = self.get("/members")
        check(answer.status == 200, "members", answer)
        return {member["name"]: member["state"] for member in answer.json}

    def has_block(self, each):
        return self.request("HEAD", f"/blocks/{each}/data").status == 200


class File:
    """One that is asked for in a round. `listed` are nodes that have its list of blocks, `kept` those
    of them that had all of it, before some was lost."""

    def __init__(self, path, data):
        self.path, self.data, self.id = path, data, file_id(data)
        self.pieces = [data[begin : begin + BLOCK_BYTES]
                       for begin in range(0, len(data), BLOCK_BYTES)]
        self.blocks = [hashlib.sha256(piece).hexdigest() for piece in self.pieces]
        self.listed, self.kept = set(), set()

    def __repr__(self):
        return f"{self.path} ({len(self.blocks)} blocks)"


def get(member, file):
    """A stream whose rest can't be had is broken off."""
    with contextlib.closing(member.connect()) as connection:
        connection.request("GET", f"/fs/{file.path}")
        answer = connection.getresponse()
        try:
            return Answer(answer.status, answer.headers, answer.read())
        except http.client.IncompleteRead as read:
            return Answer(BROKEN_OFF, answer.headers, read.partial)


class Availability(unittest.TestCase):
    def setUp(self):
        if HAS_NAMESPACE:
            test_network.make_namespace(COUNT)
        root = temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        self.root = root.__enter__()
        self.random = random.Random(SEED)
        self.story = []
        addresses = [address(number) for number in range(COUNT)]
        self.members = [
            Member(self.root, number, addresses,
                   *(("--upload-rate", str(SLOW_RATE)) if number == COUNT - 1 else ()))
            for number in range(COUNT)
        ]
        self.slow = self.members[-1]
        for member in self.members:
            self.addCleanup(member.kill)
        self.cuts = Cuts(self.members)
        self.pool = concurrent.futures.ThreadPoolExecutor(4 * COUNT)
        self.addCleanup(self.pool.shutdown)
        self.fetched = self.refused = self.unsure = 0

    def tell(self, *words):
        self.story.append(" ".join(map(str, words)))

    def each(self, function, items):
        return list(self.pool.map(function, items))

    def wait_seen(self, part):
        """Until each of a part sees that it is these, and no others."""
        names = {member.name for member in part}
        for member in part:
            wait_on(part, lambda: {name for name, state in member.states().items()
                                   if state == "alive"} == names, f"{member} sees {names}")

    # ---- scattering ----

    def scatter(self, files):
        """Nobody runs. Each node gets files whole, loses blocks of them, gets others' blocks."""
        losses = {member: set() for member in self.members}
        puts = {member: [] for member in self.members}
        for file in files:
            self.scatter_file(file, puts, losses)

        def prepare(member):
            store = Store(member.data)
            paths = []
            for number, data in enumerate(puts[member]):
                path = self.root / f"{member}-{number}"
                path.write_bytes(data)
                paths.append(path)
            if paths:
                result = store.put(*paths)
                check(result.status == 0, "store put", result)
            for path in paths:
                path.unlink()
            store.damage(losses[member])
            if losses[member]:
                result = store.scrub()
                check(result.status == 1, "scrub finds what was damaged", result)

        self.each(prepare, self.members)

    def scatter_file(self, file, puts, losses):
        """Some have the list and a part of the blocks, some only blocks. In one file of three a
        block is at one node alone, in one of three every block is."""
        holders = self.random.sample(self.members, self.random.randint(2, COUNT))
        listed = holders[: self.random.randint(1, len(holders))]
        most = self.random.choice((1, 2, len(holders)))
        has = {member: set() for member in holders}
        for index in range(len(file.blocks)):
            copies = min(self.random.randint(1, most), len(holders))
            for member in self.random.sample(holders, copies):
                has[member].add(index)
        if file.publisher not in holders:
            has[file.publisher] = set()
        file.listed = {*listed, file.publisher}
        file.kept = file.listed
        for member, indices in has.items():
            if member in file.listed:
                if member is not file.publisher:
                    puts[member].append(file.data)
                losses[member] |= {file.pieces[i] for i in range(len(file.blocks))
                                   if i not in indices}
            elif indices:
                chosen = self.random.sample(sorted(indices), len(indices))
                # Whole blocks lie at the same places of another file.
                chosen.sort(key=lambda i: len(file.pieces[i]), reverse=True)
                puts[member].append(b"".join(file.pieces[i] for i in chosen))

    def cut_fetch(self, number):
        """Some fetch a file of the slow one, which goes when a part has come."""
        data = content(("slow", SEED, number), SLOW_BYTES)
        file = File(f"slow/{number}", data)
        file.publisher = self.slow
        put(self.slow, file.path, data)
        file.listed.add(self.slow)
        wait_same([member for member in self.members if member.process])
        receivers = self.random.sample(self.members[:-1], 3)
        body = json.dumps({"op": "start", "id": file.id, "keep": True}).encode()
        for member in receivers:
            answer = member.request("POST", "/fetches", body=body)
            check(answer.status == 202, "start", answer)
        wait_on(receivers,
                lambda: all(why(member, file.id).get("blocks_here", 1) for member in receivers),
                "a part has come")
        self.slow.kill()
        # Whoever has a block has the list.
        file.listed |= {member for member in receivers
                        if any(map(member.has_block, file.blocks))}
        self.tell("cut off", *receivers, "from", file)
        return file

    # ---- faults ----

    def down(self, members):
        for member in members:
            if member.process:
                self.tell("kill", member)
                member.kill()

    def forget(self, member):
        """What it was told of others is gone."""
        shutil.rmtree(member.data / "holders", ignore_errors=True)

    def fail(self, kind):
        """Gives the parts in which those that run see each other."""
        running = [member for member in self.members if member.process]
        if kind == "zone":
            zone = self.random.choice(running).zone
            self.down([member for member in running if member.zone == zone])
        elif kind == "some":
            self.down(self.random.sample(running, self.random.randint(1, len(running) // 2)))
        elif kind == "all but one forget":
            others = self.random.sample(running, len(running) - 1)
            self.down(others)
            for member in others:
                self.forget(member)
            self.each(Member.start, others[1:])
        running = [member for member in self.members if member.process]
        if kind != "cut":
            return [running]
        shuffled = self.random.sample(running, len(running))
        size = self.random.randint(1, len(running) // 2)
        parts = [shuffled[:size], shuffled[size:]]
        self.cuts.add(*parts)
        self.cuts.add(*parts[::-1])
        self.tell("cut", *parts[0], "from", *parts[1])
        return parts

    def heal(self):
        self.cuts.heal()
        for member in self.members:
            if not member.process:
                member.start()
        self.wait_seen(self.members)

    # ---- what must hold ----

    def ask(self, part, files):
        """Each of a part for each file, all at once."""
        found = dict(zip([(member, file) for member in part for file in files],
                         self.each(lambda pair: [pair[0].has_block(each)
                                                 for each in pair[1].blocks],
                                   [(member, file) for member in part for file in files])))
        for file in files:
            is_whole = all(any(found[member, file][i] for member in part)
                           for i in range(len(file.blocks)))
            is_listed = any(member in file.listed for member in part)
            answers = self.each(lambda member: self.ask_one(member, part, file), part)
            for member, answer in zip(part, answers):
                if is_whole and is_listed:
                    check(answer.status == 200, f"{file} is there, and {member} of {part}",
                          "does not get it", answer, f"with the list: {file.listed}",
                          *(f"{other}: {found[other, file]}" for other in part),
                          [where(member, file.path, "?all=1"), why(member, file.id)],
                          *self.story)
                    check(answer.body == file.data, f"{member}: a wrong byte of {file}")
                    self.fetched += 1
                elif not is_whole:
                    self.check_refused(member, part, file, answer)
                else:
                    self.unsure += 1

    def ask_one(self, member, part, file):
        """Who can be reached and took too long, on a machine with much to do, is named as silent
        and asked again."""
        names, answers = {other.name for other in part}, []

        def is_answered():
            answers.append(get(member, file))
            told = answers[-1].json["detail"] if answers[-1].status in (404, 500) else {}
            return not any(each["why"] == "silent" and each["name"] in names
                           for each in told.get("not_asked", []))

        wait_for(is_answered, SOON_S, f"{member} hears of all of {part}")
        return answers[-1]

    def check_refused(self, member, part, file, answer):
        if answer.status == BROKEN_OFF:
            check(file.data.startswith(answer.body) and len(answer.body) < len(file.data),
                  f"{member}: a wrong byte of {file}")
            told = where(member, file.path, "?all=1")
        else:
            wanted = (500, "damaged") if member in file.kept else (404, "content_not_here")
            check((answer.status, answer.error) == wanted,
                  f"{member} of {part} can't have {file}", answer, *self.story)
            told = answer.json["detail"]
        named = {each["name"] for each in told["not_asked"]}
        others = {other.name for other in self.members if other not in part}
        check(named == others, f"{member} of {part}: not asked are {others}", answer, *self.story)
        self.refused += 1

    def test_what_is_there_is_fetched(self):
        kinds = self.random.sample(["zone", "some", "all but one forget"], 3)
        kinds = ["cut"] * HAS_NAMESPACE + kinds
        kinds = (kinds * scaled(3))[: scaled(3)]
        self.each(Member.start, self.members)
        self.wait_seen(self.members)
        rounds = []
        for number in range(len(kinds)):
            files = []
            for i in range(FILES_A_ROUND):
                size = self.random.randint(1, 12) * BLOCK_BYTES - self.random.randint(0, 200 * KIB)
                file = File(f"{number}/{i}", content((SEED, number, i), size))
                file.publisher = self.random.choice(self.members)
                put(file.publisher, file.path, file.data)
                files.append(file)
            rounds.append(files)
        wait_same(self.members)
        for member in self.members:
            member.stop()
        self.scatter(sum(rounds, []))
        for member in self.random.sample(self.members, COUNT // 2):
            self.forget(member)
        self.each(Member.start, self.members)
        self.wait_seen(self.members)

        for number, (kind, files) in enumerate(zip(kinds, rounds)):
            self.tell(f"round {number}: {kind}")
            files.append(self.cut_fetch(number))
            parts = self.fail(kind)
            for part in parts:
                self.wait_seen(part)
            for part in parts:
                self.ask(part, files)
            self.heal()
        self.tell("all are back")
        self.ask(self.members, sum(rounds, []))
        print(f"{COUNT} nodes, {len(kinds)} rounds ({', '.join(kinds)}): {self.fetched} fetched, "
              f"{self.refused} refused, {self.unsure} may be either", flush=True)



if __name__ == "__main__":
    if not HAS_NAMESPACE:
        test_network.enter_namespace()  # returns if there is none
    harness.main()
