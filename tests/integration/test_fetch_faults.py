# SPDX-License-Identifier: Apache-2.0
"""Content is found and fetched if any node has it, whatever happens meanwhile."""

import hashlib
import http.client
import json
import os
import signal
import subprocess
import threading

import harness
from harness import BLOCK_BYTES, MIB, Store, check, content, file_id, metadata_text
from test_disk_full import Ballast, command
from test_fetch import Fetching, fetches, get, why
from trees import put, wait_on, wait_same


def unseen_error():
    """Bits that change data and not its CRC32C: its polynomial, the highest power first, in bytes
    whose lowest bit is the first."""
    bits = f"{0x11EDC6F41:b}"
    return int(bits[::-1], 2).to_bytes(5, "little")


class Background(Fetching):
    def start_fetch(self, node, data):
        body = json.dumps({"op": "start", "id": file_id(data), "keep": True}).encode()
        answer = node.request("POST", "/fetches", body=body)
        check(answer.status == 202, "start", answer)

    def wait_part(self, node, data):
        """Until some of it, and not all, has come; false: it was over before."""
        told = {}

        def is_part():
            told.update(why(node, file_id(data)))
            return told["state"] == "done" or told.get("blocks_here", told.get("here", 0)) > 0

        wait_on([node], is_part, "a part has come")
        return told["state"] != "done"

    def wait_done(self, node, path, data):
        self.wait_holds(node, path)
        wait_on([node], lambda: why(node, path)["state"] in ("done", "here"), "it is over")
        self.assertEqual(get(node, path) == data, True)


class Faults(Background):
    def test_a_killed_node_goes_on_where_it_was(self):
        a, b = self.network(2)
        data = content("restart", 48 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        self.start_fetch(b, data)
        self.wait_part(b, data)
        b.kill()
        b.start()
        self.wait_all_alive()
        self.wait_done(b, "file", data)

    def test_what_had_come_does_not_come_again(self):
        a = self.new("--upload-rate", "8M").start()
        b = self.new("--join", a.at).start()
        self.wait_all_alive()
        data = content("not again", 24 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        self.start_fetch(b, data)
        # What the index knows; what came after the last flush may be lost.
        blocks = json.loads(metadata_text(data))["blocks"]
        wait_on([b], lambda: b.metric("store_blocks") >= len(blocks) // 3, "a third is kept")
        b.kill()
        a.kill()
        b.start()
        here = b.metric("store_blocks")
        self.assertGreaterEqual(here, len(blocks) // 3)
        wait_on([b], lambda: why(b, "file").get("waits_for") == "members that can't be reached",
                "it waits for those that have it")
        a.start()
        self.wait_all_alive()
        self.wait_done(b, "file", data)
        came = b.metric("fetch_bytes_total") - b.metric("fetch_duplicate_bytes_total")
        self.assertEqual(came, len(data) - here * BLOCK_BYTES)

    def test_only_one_node_has_it_and_no_owner_knows(self):
        """All but the holder restart with nothing; those who knew of it are gone."""
        nodes = self.network(5)
        data = content("alone", 3 * BLOCK_BYTES)
        put(nodes[1], "file", data)
        wait_same(nodes)
        for node in self.others(nodes[1], nodes[4]):
            node.kill()
        self.wait_states(self.states(n0="unreachable", n2="unreachable", n3="unreachable"),
                         [nodes[1], nodes[4]], "they are missed")
        self.assertEqual(get(nodes[4], "file") == data, True)

    def test_parts_on_several_nodes_make_a_whole(self):
        """The publisher is lost while three fetch it: what they have together is enough."""
        nodes = self.network(4)
        data = content("spread", 96 * MIB)
        put(nodes[0], "file", data)
        wait_same(nodes)
        rest = nodes[1:]
        for node in rest:
            self.start_fetch(node, data)
        wait_on(rest, lambda: self.covered(rest, data), "they have all of it together")
        nodes[0].kill()
        for node in rest:
            self.wait_done(node, "file", data)

    def covered(self, nodes, data):
        """A bound on the safe side: one has all of it."""
        return any(why(node, file_id(data))["state"] in ("done", "here") for node in nodes)

    def test_a_frozen_source_costs_a_moment(self):
        a, b, c = self.network(3)
        data = content("frozen", 32 * MIB)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(get(b, "file") == data, True)
        self.wait_holds(b, "file")
        with self.stopped(a):
            self.assertEqual(get(c, "file") == data, True)

    def test_a_source_dies_while_it_gives(self):
        a, b, c = self.network(3)
        data = content("dies", 64 * MIB)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(get(b, "file") == data, True)
        self.wait_holds(b, "file")
        got = []
        thread = threading.Thread(target=lambda: got.append(get(c, "file")))
        thread.start()
        self.wait_part(c, data)
        b.kill()
        thread.join()
        self.assertEqual([each == data for each in got], [True])

    def test_damage_on_one_disk_harms_nobody(self):
        """A source whose copy is damaged is not believed; the other one gives it."""
        a, b, c = self.network(3)
        data = content("damage", 4 * MIB)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(get(b, "file") == data, True)
        self.wait_holds(b, "file")
        a.signal(signal.SIGSTOP)
        try:
            damaged = 0
            for segment in (a.data / "segments").iterdir():
                raw = bytearray(segment.read_bytes())
                at = raw.find(data[: 4096])
                if at >= 0:
                    raw[at + 1000] ^= 1
                    with segment.open("r+b") as file:
                        file.seek(at + 1000)
                        file.write(raw[at + 1000 : at + 1001])
                    damaged += 1
            check(damaged == 1, "the first block is in one segment", damaged)
        finally:
            a.signal(signal.SIGCONT)
        self.assertEqual(get(c, "file") == data, True)

    def test_who_gives_wrong_bytes_is_asked_no_more(self):
        a, b, c = self.network(3)
        data = content("liar", 16 * MIB)
        put(a, "file", data)
        wait_same([a, b, c])
        self.assertEqual(get(b, "file") == data, True)
        self.wait_holds(b, "file")
        error = unseen_error()
        with self.stopped(a):
            damaged = 0
            for segment in (a.data / "segments").iterdir():
                raw = segment.read_bytes()
                with segment.open("r+b") as file:
                    for begin in range(0, len(data), BLOCK_BYTES):
                        at = raw.find(data[begin : begin + 64])
                        if at >= 0:
                            file.seek(at)
                            file.write(bytes(x ^ y for x, y in zip(raw[at : at + 5], error)))
                            damaged += 1
            self.assertEqual(damaged, len(data) // BLOCK_BYTES)
        self.assertEqual((c.status()["bad_blocks"], c.status()["shunned"]), (0, []))
        self.assertEqual(get(c, "file") == data, True)
        status = c.status()
        self.assertGreaterEqual(status["bad_blocks"], 3)
        self.assertEqual([each["name"] for each in status["shunned"]], ["n0"])
        self.assertEqual((c.metric("fetch_shunned"), c.metric("fetch_shunned_total")), (1, 1))
        self.assertEqual(c.metric("fetch_blocks_bad_total"), status["bad_blocks"])
        said = self.artel("status", c)
        self.assertIn(b"n0 gave wrong bytes", said.out)
        self.assertIn(f"event=source_shunned member={a.status()['node']}".encode(), c.log)
        self.assertEqual(b.status()["shunned"], [])

        # What only it has is not found, and it is said why.
        put(a, "other", content("other", MIB))
        wait_same([a, b, c])
        answer = c.get("/fs/other")
        self.assertEqual((answer.status, answer.json["error"]), (404, "content_not_here"))
        self.assertEqual([(each["name"], each["why"]) for each in answer.json["detail"]["not_asked"]],
                         [("n0", "shunned")])
        self.assertIn("1 could not be asked: n0 (zone z, ", answer.json["message"])
        answer = c.get("/where/other?all=1")
        self.assertEqual([(each["name"], each["why"]) for each in answer.json["not_asked"]],
                         [("n0", "shunned")])
        self.assertEqual(b.get("/where/other?all=1").json["not_asked"], [])

    def test_the_only_list_is_at_the_one_that_asks(self):
        """Who lost blocks knows by itself what to look for, and others have them in other files."""
        a, b, c = self.network(3)
        data = content("list", 3 * BLOCK_BYTES)
        pieces = [data[begin : begin + BLOCK_BYTES] for begin in range(0, len(data), BLOCK_BYTES)]
        put(a, "file", data)
        put(c, "another", b"".join(reversed(pieces)))
        wait_same([a, b, c])
        self.start_fetch(b, data)
        self.wait_done(b, "file", data)
        a.kill()
        b.stop()
        store = Store(b.data)
        store.damage(pieces[1:])
        check(store.scrub().status == 1, "scrub finds what was damaged")
        b.start()
        self.wait_states(self.states(n0="unreachable"), [b, c], "n0 is missed")
        self.assertEqual(get(b, "file") == data, True)
        self.assertEqual(get(c, "file") == data, True)

    def test_a_cut_index_is_told_again(self):
        """Owners that lost what they were told hear it again, and nothing is missed meanwhile."""
        a, b, c = self.network(3)
        data = content("told", BLOCK_BYTES + 1)
        put(a, "file", data)
        wait_same([a, b, c])
        for node in (b, c):
            node.kill()  # an unclean stop throws the index away
        for node in (b, c):
            node.start()
        self.wait_all_alive()
        self.assertEqual(get(b, "file") == data, True)
        wait_on([c], lambda: c.metric("locate_rows") > 0, "it is told again")


class FullDisk(Background):
    DISK_MIB = 96

    def mount(self, node):
        if os.geteuid() != 0:
            self.skipTest("only root can mount")
        node.data.mkdir()
        command("mount", "-t", "tmpfs", "-o", f"size={self.DISK_MIB}m", "artel-test", node.data)
        self.stack.callback(subprocess.run, ["umount", "-l", str(node.data)], check=True)

    def pair_with_small_disk(self):
        """Two nodes, and what takes the space of the second one's disk."""
        a = self.new().start()
        b = self.new("--join", a.at)
        self.mount(b)
        self.stack.callback(b.kill)
        b.start()
        self.wait_all_alive()
        ballast = Ballast(b.data)
        self.stack.callback(ballast.close)
        return a, b, ballast

    def test_a_large_file_waits_for_room(self):
        a, b, ballast = self.pair_with_small_disk()
        data = content("large", 12 * MIB)
        put(a, "file", data)
        wait_same([a, b])
        ballast.leave(20 * MIB)
        self.start_fetch(b, data)
        wait_on([b], lambda: fetches(b).get(file_id(data), {}).get("state") == "no_space",
                "it waits for room")
        self.assertEqual(b.metric("fetch_no_space_total") > 0, True)
        ballast.drop()
        self.wait_done(b, "file", data)

    def test_a_full_disk_loses_nothing(self):
        """Killed while it waits for room, with a reader who is told that there is none."""
        a, b, ballast = self.pair_with_small_disk()
        data = content("kept", 12 * MIB)
        own = content("own", MIB)
        put(a, "file", data)
        put(b, "own", own)
        wait_same([a, b])
        ballast.leave(18 * MIB)
        self.start_fetch(b, data)
        wait_on([b], lambda: fetches(b).get(file_id(data), {}).get("state") == "no_space",
                "it waits for room")
        answer = b.put("more", content("more", 4 * MIB))
        self.assertEqual((answer.status, answer.error), (507, "no_space"))
        self.assertIn(b"event=fetches_wait_for_room", b.log)
        b.kill()
        b.start()
        self.wait_all_alive()
        wait_on([b], lambda: fetches(b).get(file_id(data), {}).get("state") == "no_space",
                "it waits again")
        self.assertEqual(get(b, "own") == own, True)
        self.assertEqual(len(self.read_on_full_disk(b, "file", data)) < len(data), True)
        ballast.drop()
        self.assertEqual(get(b, "file") == data, True)
        self.wait_done(b, "file", data)

    def read_on_full_disk(self, node, path, data):
        """What comes before it is told that there is no room."""
        try:
            answer = node.get(f"/fs/{path}")
        except http.client.IncompleteRead as failure:
            self.assertEqual(failure.partial == data[:len(failure.partial)], True)
            return failure.partial
        self.assertEqual((answer.status, answer.error), (507, "no_space"))
        return b""

    def is_here(self, node, data, at):
        block = hashlib.sha256(data[at:at + BLOCK_BYTES]).hexdigest()
        return node.get(f"/blocks/{block}/data").status == 200

    def test_a_reader_does_not_wait_for_room(self):
        a, b, ballast = self.pair_with_small_disk()
        data = content("read", 12 * MIB)
        small = content("small", 1000)
        put(a, "file", data)
        put(a, "small", small)
        wait_same([a, b])
        # There is room for the beginning of it, whose answer breaks off.
        ballast.leave(20 * MIB)
        got = self.read_on_full_disk(b, "file", data)
        self.assertEqual(0 < len(got) < len(data), True, len(got))
        told = why(b, "file")
        self.assertIn(told["state"], ("no_space", "failed"), told)
        self.assertEqual(told.get("error", "no_space"), "no_space", told)
        # Of what is not here nothing: it is told before the first byte.
        absent = [at for at in range(0, len(data), BLOCK_BYTES) if not self.is_here(b, data, at)]
        self.assertGreater(len(absent), 0)
        first = absent[-1]
        answer = b.get("/fs/file", Range=f"bytes={first}-{first + BLOCK_BYTES - 1}")
        self.assertEqual((answer.status, answer.error), (507, "no_space"))
        result = self.artel("get", b, "file", self.root / "target")
        self.assertEqual(result.status, 1, result)
        self.assertIn("the disk of this node is full", result.err)
        ballast.drop()
        self.assertEqual(get(b, "file") == data, True)
        self.assertEqual(get(b, "small") == small, True)

    def test_a_reader_of_a_small_file_does_not_wait_either(self):
        a, b, ballast = self.pair_with_small_disk()
        files = {f"{i}": content(("read small", i), 100000) for i in range(8)}
        for path, data in files.items():
            put(a, path, data)
        wait_same([a, b])
        ballast.leave(14 * MIB)
        for path, data in files.items():
            # It may come out of memory, before it is found that it can't be kept.
            answer = b.get(f"/fs/{path}")
            if answer.status == 200:
                self.assertEqual(answer.body == data, True)
            else:
                self.assertEqual((answer.status, answer.error), (507, "no_space"))
        ballast.drop()
        for path, data in files.items():
            self.assertEqual(get(b, path) == data, True)

    def test_small_files_wait_for_room(self):
        a, b, ballast = self.pair_with_small_disk()
        files = {f"{i}": content(("small", i), 100000) for i in range(100)}
        for path, data in files.items():
            put(a, path, data)
        wait_same([a, b])
        ballast.leave(18 * MIB)
        for data in files.values():
            self.start_fetch(b, data)
        wait_on([b], lambda: b.metric("fetch_no_space_total") > 0, "there is no room")
        ballast.drop()
        for path, data in files.items():
            self.wait_done(b, path, data)


if __name__ == "__main__":
    harness.main()
