# SPDX-License-Identifier: Apache-2.0
"""Real nodes on addresses 127.0.0.x find each other, and notice who goes and comes."""

import contextlib
import json
import os
import pathlib
import pty
import random
import re
import select
import shutil
import signal
import socket
import unittest

import harness
from harness import SEED, check, temp_dir, wait_for
from node import Node

# Detection takes some two seconds, and other tests run beside this one.
SOON_S = 180 if harness.SANITIZED else 45


class Member(Node):
    """A node with an address and a name of its own."""

    def __init__(self, root, number, *options, listen=None):
        self.name = f"n{number}"
        self.listen = listen or f"127.0.0.{10 + number}:0"
        self.more = options
        super().__init__(pathlib.Path(root) / self.name)

    def start(self, *options):
        self.options = ("--listen", self.listen, "--name", self.name, "--zone", "z", *self.more)
        self.options += options
        super().start()
        self.listen = self.at  # it comes back there
        return self

    @property
    def at(self):
        return "{}:{}".format(*self.address)

    @property
    def url(self):
        return f"http://{self.at}"

    def members(self):
        """{name: member}"""
        answer = self.get("/members")
        check(answer.status == 200, "members", answer)
        return {member["name"]: member for member in answer.json}

    def states(self):
        return {name: member["state"] for name, member in self.members().items()}

    def sees(self, states):
        return self.states() == states

    def wait_ended(self):
        """Its exit status, when it ends by itself."""
        return self._join(SOON_S)

    def metric(self, name):
        return self.metrics()[f"artel_{name}"]


class Nodes(unittest.TestCase):
    """A network for each test; what is left of it is killed at the end."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.root = self.stack.enter_context(temp_dir())
        self.random = random.Random(SEED)
        self.nodes = []

    def new(self, *options, listen=None):
        member = Member(self.root, len(self.nodes), *options, listen=listen)
        self.stack.callback(member.kill)
        self.nodes.append(member)
        return member

    def network(self, count):
        """So many nodes that joined through the first, and know each other."""
        first = self.new().start()
        for _ in range(count - 1):
            self.new("--join", first.at).start()
        self.wait_all_alive()
        return self.nodes

    def wait_states(self, states, nodes, what):
        for node in nodes:
            try:
                wait_for(lambda: node.sees(states), SOON_S, what)
            except harness.Failure as failure:
                raise harness.Failure(f"{failure}\n{node.name}: {node.states()}") from None

    def wait_all_alive(self, nodes=None):
        nodes = nodes or self.nodes
        self.wait_states({node.name: "alive" for node in nodes}, nodes, "all see all")

    def states(self, **others):
        """All alive but for those given."""
        return {node.name: "alive" for node in self.nodes} | others

    def others(self, *nodes):
        return [node for node in self.nodes if node not in nodes]

    def artel(self, verb, node, *arguments):
        return harness.run(verb, "--node", node.url, *arguments)


class Joining(Nodes):
    def test_all_see_all_through_one_seed(self):
        nodes = self.network(6)
        views = [node.members() for node in nodes]
        for node, view in zip(nodes, views):
            own = [name for name, member in view.items() if member["self"]]
            self.assertEqual(own, [node.name])
            for other in nodes:
                member = view[other.name]
                self.assertEqual(member["node"], other.status()["node"])
                self.assertEqual(member["address"], other.at)
                self.assertEqual(member["zone"], "z")
                self.assertGreaterEqual(member["incarnation"], 1)
                self.assertTrue(member["in_ring"])
                self.assertGreater(member["capacity"], 0)
                self.assertRegex(member["since"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")
        self.assertEqual(len({member["node"] for member in views[0].values()}), 6)
        for node in nodes:
            wait_for(lambda: node.status()["agree"], SOON_S, "all tell the same list")
            status = node.status()
            self.assertEqual(status["members"], 6)
            self.assertFalse(status["isolated"])
            self.assertEqual(node.metric("members_alive"), 6)
            self.assertEqual(node.metric("members_unreachable"), 0)
        # Each is probed by somebody, and probes somebody.
        for node in nodes:
            wait_for(lambda: any("rtt_ms" in each for each in node.members().values()), SOON_S,
                     "a round-trip time")

    def test_through_several_seeds_of_which_one_is_dead_and_one_a_name(self):
        first = self.new(listen="127.0.0.1:0").start()
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as dead:
            dead.bind(("127.0.0.2", 0))
            port = dead.getsockname()[1]
            seeds = f"127.0.0.2:{port},localhost:{first.address[1]},no.such.name.invalid:1"
            self.new("--join", seeds).start()
            self.new("--join", seeds).start()
            self.wait_all_alive()

    def test_a_seed_may_come_later(self):
        seed = self.new().start()
        seed.stop()
        joiner = self.new("--join", seed.at).start()
        self.assertEqual(joiner.states(), {joiner.name: "alive"})
        seed.start()
        self.wait_all_alive()

    def test_networks_grow_together(self):
        one, other = self.new().start(), self.new().start()
        self.new("--join", one.at).start()
        self.new("--join", other.at).start()
        self.wait_states({"n0": "alive", "n2": "alive"}, [self.nodes[2]], "two")
        self.wait_states({"n1": "alive", "n3": "alive"}, [self.nodes[3]], "two others")
        self.new("--join", f"{one.at},{other.at}").start()
        self.wait_all_alive()

    def test_the_address_told_to_others(self):
        told = self.new("--advertise", "127.0.0.99:7777").start()
        self.assertEqual(told.members()[told.name]["address"], "127.0.0.99:7777")
        everywhere = self.new("--insecure", listen="0.0.0.0:0")
        try:
            everywhere.start()
        except harness.Failure as failure:
            # A machine that has nothing but loopback.
            self.assertIn("give --advertise", str(failure))
            return
        address = everywhere.members()[everywhere.name]["address"]
        self.assertNotRegex(address, r"^(0|127)\.")
        self.assertTrue(address.endswith(f":{everywhere.address[1]}"))

    def test_calls_that_make_no_sense(self):
        for options in (["--join", "nothing"], ["--join", "a:1,"], ["--join", "a:0"],
                        ["--advertise", "127.0.0.1:0"], ["--advertise", "0.0.0.0:1"],
                        ["--listen", "nowhere"], ["--name", "x" * 65], ["--zone", ""]):
            result = harness.run("node", "--data", self.root / "x", *options)
            self.assertEqual(result.status, 2, result)
        self.assertFalse((self.root / "x").exists())

    def test_a_port_that_somebody_has_for_udp(self):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
            taken.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{taken.getsockname()[1]}"
            result = harness.run("node", "--data", self.root / "x", "--listen", listen)
        self.assertEqual(result.status, 1, result)
        self.assertIn("somebody else listens there", result.err)


class GoingAndComing(Nodes):
    def test_a_killed_one_is_noticed_by_all_and_comes_back_as_itself(self):
        nodes = self.network(6)
        lost = nodes[3]
        before = nodes[0].members()[lost.name]
        watches = [self.stack.enter_context(node.watch("?members=only")) for node in nodes[:2]]
        lost.kill()
        self.wait_states(self.states(n3="unreachable"), self.others(lost), "it is missed")
        for watch in watches:
            event = watch.next(SOON_S)
            self.assertEqual(event["event"], "member_unreachable")
            self.assertEqual((event["name"], event["node"]), (lost.name, before["node"]))
        for node in self.others(lost):
            self.assertTrue(node.members()[lost.name]["in_ring"])
            self.assertEqual(node.status()["members"], 5)
            self.assertEqual(node.metric("members_unreachable"), 1)
        # It remembers the others without being told of one.
        lost.more = ()
        lost.start()
        self.wait_all_alive()
        after = nodes[0].members()[lost.name]
        self.assertEqual(after["node"], before["node"])
        self.assertGreater(after["incarnation"], before["incarnation"])
        for watch in watches:
            event = watch.next(SOON_S)
            self.assertEqual((event["event"], event["name"]), ("member_alive", lost.name))

    def test_a_paused_one_goes_on_as_itself(self):
        nodes = self.network(5)
        paused = nodes[2]
        id_before = paused.status()["node"]
        paused.signal(signal.SIGSTOP)
        self.wait_states(self.states(n2="unreachable"), self.others(paused), "it is missed")
        paused.signal(signal.SIGCONT)
        self.wait_all_alive()
        self.assertEqual(paused.status()["node"], id_before)
        # It took nobody for lost when it woke.
        self.assertEqual(paused.metric("member_accusations_total"), 0)

    def test_a_stop_is_told_and_not_found_out(self):
        nodes = self.network(5)
        stopped = nodes[1]
        stopped.stop()
        self.wait_states(self.states(n1="unreachable"), self.others(stopped), "all know")
        for node in self.others(stopped):
            self.assertEqual(node.metric("member_accusations_total"), 0)
            self.assertTrue(node.members()[stopped.name]["in_ring"])

    def test_leaving_for_good(self):
        nodes = self.network(4)
        leaver = nodes[2]
        result = self.artel("leave", leaver)
        self.assertEqual((result.status, result.out), (0, b""), result)
        self.assertEqual(leaver.wait_ended(), 0)
        self.wait_states(self.states(n2="left"), self.others(leaver), "all know")
        for node in self.others(leaver):
            self.assertFalse(node.members()[leaver.name]["in_ring"])
            self.assertEqual(node.metric("members_left"), 1)
        # Started again, it is a member again.
        leaver.start()
        self.wait_all_alive()
        self.assertTrue(nodes[0].members()[leaver.name]["in_ring"])

    def test_a_lone_node_leaves_too(self):
        node = self.new().start()
        answer = node.request("POST", "/members", b'{"op":"leave"}')
        self.assertEqual((answer.status, answer.json["state"]), (200, "left"), answer)
        self.assertEqual(node.wait_ended(), 0)

    def test_a_whole_network_that_stops_comes_back(self):
        nodes = self.network(4)
        for node in nodes:
            node.stop()
        for node in nodes:
            node.more = ()
            node.start()
        self.wait_all_alive()

    def test_a_copy_of_a_node_is_refused(self):
        nodes = self.network(3)
        original = nodes[1]
        before = original.status()["node"]
        # Of two that started within a second chance decides, since nobody can tell which came first.
        wait_for(lambda: original.status()["up_ms"] > 3000, SOON_S, "it is clearly the older one")
        copy = self.new("--join", nodes[0].at)
        copy.data.mkdir()
        for name in ("format", "node.key", "members"):
            shutil.copy2(original.data / name, copy.data)
        for name in ("index", "segments"):
            shutil.copytree(original.data / name, copy.data / name)
        copy.start()
        self.assertEqual(copy.wait_ended(), 1)
        log = copy.log.decode()
        self.assertIn("event=identity_conflict", log)
        self.assertRegex(log, rf"artel node: .*{copy.name} has the identity of another node")
        self.nodes.remove(copy)
        self.wait_all_alive()
        for node in nodes:
            wait_for(lambda: node.members()["n1"]["address"] == original.at, SOON_S,
                     "the original is where it was")
        self.assertEqual(original.status()["node"], before)

    def test_a_damaged_file_of_members(self):
        nodes = self.network(3)
        hurt = nodes[2]
        for damage in (b"", b"\x01damaged", self.random.randbytes(300)):
            before = nodes[0].members()[hurt.name]
            hurt.stop()
            (hurt.data / "members").write_bytes(damage)
            hurt.start()
            self.wait_all_alive()
            self.assertIn(b"event=members_file_damaged", hurt.log)
            self.assertEqual((hurt.data / "members.damaged").read_bytes(), damage)
            after = nodes[0].members()[hurt.name]
            self.assertEqual(after["node"], before["node"])
            self.assertGreaterEqual(after["incarnation"], before["incarnation"])


class Garbage(Nodes):
    def test_datagrams_of_strangers_change_nothing(self):
        nodes = self.network(3)
        target = nodes[0]
        watch = self.stack.enter_context(target.watch("?members=only"))
        before = {name: dict(member, rtt_ms=0) for name, member in target.members().items()}
        sample = self.captured(target)
        count = harness.scaled(3000, sanitized=0.3)
        received = target.metric("member_datagrams_received_total")
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
            stranger.bind(("127.0.0.200", 0))
            for i in range(count):
                stranger.sendto(self.garbage(sample, i), target.address)
                if i % 100 == 99:
                    # No faster than they are read: each shall be looked at.
                    wait_for(lambda: target.metric("member_datagrams_received_total")
                             >= received + (i + 1) * 0.9, SOON_S, "it reads")
        after = {name: dict(member, rtt_ms=0) for name, member in target.members().items()}
        self.assertEqual(after, before)
        self.assertTrue(watch.is_quiet())
        self.assertGreater(target.metric("member_datagrams_refused_total"), count // 2)
        self.assertEqual(target.put("still/here", b"x").status, 201)

    def captured(self, target):
        """A real datagram: what a node that joins says first."""
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as seed:
            seed.bind(("127.0.0.2", 0))
            seed.settimeout(SOON_S)
            lonely = self.new("--join", "127.0.0.2:{}".format(seed.getsockname()[1])).start()
            datagram, _ = seed.recvfrom(2000)
            lonely.stop()
        self.nodes.remove(lonely)
        return datagram

    def garbage(self, sample, number):
        rng = self.random
        kind = number % 4
        if kind == 0:
            return rng.randbytes(rng.randrange(1, 1400))
        if kind == 1:
            return sample[: rng.randrange(1, len(sample))]
        changed = bytearray(sample)
        if kind == 2:  # of another version
            changed[1] = rng.choice([0, 2, 255])
            return bytes(changed)
        # A type with a body that is none: past the head everything is noise.
        changed[3] = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 99])
        return bytes(changed[:40]) + rng.randbytes(rng.randrange(0, 1300))


class Telling(Nodes):
    def test_the_table(self):
        nodes = self.network(3)
        result = self.artel("members", nodes[1])
        self.assertEqual(result.status, 0, result)
        lines = result.out.decode().splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "ZONE", "ADDRESS", "STATE", "RTT", "SINCE"])
        self.assertEqual([line[0] for line in lines[1:]], [" ", "*", " "])
        self.assertEqual([line[2:].split()[:4] for line in lines[1:]],
                         [[node.name, "z", node.at, "alive"] for node in nodes])
        result = self.artel("members", nodes[1], "--json")
        self.assertEqual({each["name"] for each in json.loads(result.out)}, {"n0", "n1", "n2"})
        lines = nodes[0].get("/members", Accept="application/x-ndjson").body.splitlines()
        self.assertEqual([json.loads(line)["name"] for line in lines],
                         [each["name"] for each in nodes[0].get("/members").json])
        self.assertEqual(self.artel("members", nodes[0], "x").status, 2)
        self.assertEqual(self.artel("leave", nodes[0], "x").status, 2)

    def test_no_node_to_ask(self):
        node = self.new().start()
        node.stop()
        self.assertEqual(self.artel("members", node).status, 1)
        self.assertEqual(self.artel("members", node, "--watch").status, 1)
        self.assertEqual(self.artel("leave", node).status, 1)

    def watchers(self, node, count):
        wait_for(lambda: node.metric("watchers") >= count, SOON_S, "it watches")

    def test_members_watch_prints_a_line_or_an_object_for_each_event(self):
        nodes = self.network(3)
        lines = harness.start("members", "--watch", "--node", nodes[0].url)
        objects = harness.start("members", "--watch", "--json", "--node", nodes[0].url)
        self.stack.callback(harness.stop, lines)
        self.stack.callback(harness.stop, objects)
        self.watchers(nodes[0], 2)
        id_of_lost = nodes[2].status()["node"]
        nodes[2].kill()
        line = lines.stdout.readline().decode()
        self.assertRegex(line, rf"^\S+Z  member_unreachable +n2  z  {nodes[2].at}  {id_of_lost}\n$")
        event = json.loads(objects.stdout.readline())
        self.assertEqual((event["event"], event["node"]), ("member_unreachable", id_of_lost))

    def test_members_watch_keeps_a_table_on_a_terminal(self):
        nodes = self.network(3)
        main, other = pty.openpty()
        self.stack.callback(os.close, main)
        process = harness.start("members", "--watch", "--node", nodes[0].url, stdout=other)
        os.close(other)
        self.stack.callback(harness.stop, process)
        seen = b""

        def shows(pattern):
            nonlocal seen
            if select.select([main], [], [], 0)[0]:
                seen += os.read(main, 65536)
            last = seen.split(b"\033[H")[-1].decode()
            return b"\033[J" in seen and re.search(pattern, last)

        wait_for(lambda: shows(r"n1 .*alive[^\n]*\n.*n2 .*alive"), SOON_S, "the table")
        nodes[2].kill()
        wait_for(lambda: shows(r"n1 .*alive[^\n]*\n.*n2 .*unreachable"), SOON_S, "the new table")

    def test_the_stream_tells_of_members_and_changes(self):
        nodes = self.network(3)
        node = nodes[0]
        both = self.stack.enter_context(node.watch("?members=1&path=a/**"))
        only = self.stack.enter_context(node.watch("?members=only"))
        none = self.stack.enter_context(node.watch(""))
        node.put("a/b", b"x")
        node.put("c", b"x")
        self.assertEqual(both.next()["path"], "a/b")
        nodes[1].stop()
        for watch in (both, only):
            event = watch.next(SOON_S)
            self.assertEqual((event["event"], event["name"]), ("member_unreachable", "n1"))
            self.assertEqual(event["state"], "unreachable")
            self.assertIn("time", event)
            self.assertNotIn("cursor", event)
        nodes[1].start()
        for watch in (both, only):
            self.assertEqual(watch.next(SOON_S)["event"], "member_alive")
        self.artel("leave", nodes[2])
        for watch in (both, only):
            found = {watch.next(SOON_S)["event"] for _ in range(2)}
            self.assertEqual(found, {"member_left", "ring_left"})
        node.put("a/d", b"x")
        self.assertEqual(both.next()["path"], "a/d")
        self.assertEqual([each["path"] for each in none.take(3)], ["a/b", "c", "a/d"])
        self.assertTrue(only.is_quiet())

    def test_requests_that_make_no_sense(self):
        node = self.new().start()
        for query in ("members=2", "members=", "members=only&path=a", "members=only&since=0"):
            self.assertEqual(node.get(f"/watch?{query}").error, "bad_query", query)
        for body in (b"", b"{}", b"[]", b'{"op":"stay"}', b'{"op":1}'):
            answer = node.request("POST", "/members", body)
            self.assertEqual((answer.status, answer.error), (400, "bad_body"), answer)
        answer = node.request("POST", "/members", b" " * 70000)
        self.assertEqual((answer.status, answer.error), (413, "too_large"), answer)
        self.assertEqual(node.get("/members/x").status, 404)
        self.assertEqual(node.request("DELETE", "/members").status, 405)
        self.assertEqual(node.states(), {node.name: "alive"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
