# SPDX-License-Identifier: Apache-2.0
"""`artel follow` where something comes in between: a crash, another change, a person, a node that hangs."""

import os
import shutil
import signal

import harness
from harness import MIB, content, wait_for
from following import Follower, Following, seen
from trees import SOON_S, put, put_tar


class Between(Following):
    def current(self, follower):
        wait_for(lambda: follower.state.get("current") and not follower.state["hooks"], SOON_S,
                 "all is here")

    def test_something_comes_where_a_file_was_moved_from(self):
        put(self.node, "a/x", b"1")
        command, done = self.hook()
        follower = self.follow(command=command)
        wait_for(lambda: done() == ["put  a/x"], SOON_S, "the first")
        self.current(follower)
        follower.process.send_signal(signal.SIGSTOP)
        self.rename("a/x", "a/y")
        put(self.node, "a/x", b"22")
        follower.process.send_signal(signal.SIGCONT)
        self.wait_equal()
        wait_for(lambda: "put  a/x" in done()[1:], SOON_S, "it is told, too")

    def test_a_crash_beside_a_directory_with_a_name_like_ours(self):
        slow = self.new("--join", self.node.at, "--upload-rate", "256K").start()
        self.wait_all_alive()
        put(self.node, "a/foo.artel/x/keep", b"k")
        follower = self.follow("a")
        self.wait_equal()
        folder = self.dir / "a/foo.artel/x"
        (folder / "mine").write_bytes(b"of a person")
        put_tar(slow, "a/foo.artel/x/idx", {"big": content("b", 6 * MIB), "s": b"1"}, "?atomic=1")
        wait_for(lambda: list(folder.glob(".artel/idx.*")) and follower.state.get("arriving"),
                 SOON_S, "half of it is here")
        follower.kill()
        follower.start()
        wait_for(lambda: follower.state, SOON_S, "it is up again")
        self.assertEqual((folder / "mine").read_bytes(), b"of a person")
        self.assertEqual((folder / "keep").read_bytes(), b"k")

    def test_a_crash_while_a_time_is_set(self):
        put(self.node, "a/x", b"1")
        command, done = self.hook()
        follower = self.follow(command=command)
        wait_for(lambda: done() == ["put  a/x"], SOON_S, "the first")
        for at in range(1, 200):
            follower.stop()
            before = len(done())
            self.node.put("a/x", b"1", query=f"?mtime={1000000000 + at}")
            fault = harness.Fault(self.dir, "any", at, "kill-after")
            follower.start(fault)
            process, state = follower.process, lambda: follower.state
            wait_for(lambda: process.poll() is not None
                     or (state().get("current") and not state()["hooks"]), SOON_S, "it ends or is done")
            follower.kill()
            fault.collect()
            follower.start()
            self.current(follower)
            self.assertIn("put  a/x", done()[before:], f"killed at call {at}")
            if not fault.struck:
                break
        self.assertGreater(at, 5)
        put(self.node, "a/x", b"2")
        self.wait_equal()
        self.assertEqual(os.listdir(self.dir / "a"), ["x"], "it was not taken for somebody's")

    def test_a_link_of_a_person(self):
        (self.dir / "a").mkdir(parents=True)
        os.symlink("/my/place", self.dir / "a/d")
        self.follow("a")
        put_tar(self.node, "a/d", {"1": b"1"}, "?atomic=1")
        wait_for((self.dir / "a/d/1").exists, SOON_S, "it is switched")
        [kept] = [name for name in os.listdir(self.dir / "a") if name.startswith("d.local-")]
        self.assertEqual(os.readlink(self.dir / "a" / kept), "/my/place")

    def test_a_link_that_was_removed(self):
        follower = self.follow("a")
        put_tar(self.node, "a/d", {"1": b"1"}, "?atomic=1")
        self.wait_equal()
        self.current(follower)
        follower.stop()
        (self.dir / "a/d").unlink()
        follower.start()
        wait_for((self.dir / "a/d/1").exists, SOON_S, "it is back")

    def test_a_long_name_is_kept_whole(self):
        """Names of 255 bytes get their ending between two characters."""
        name = "x" + "я" * 127
        put(self.node, f"a/{name}", b"1")
        follower = self.follow("a")
        wait_for((self.dir / "a" / name).exists, SOON_S, "it is here")
        self.current(follower)
        (self.dir / "a" / name).write_bytes(b"mine")
        put(self.node, f"a/{name}", b"2")
        wait_for(lambda: any(b".local-" in each for each in os.listdir(bytes(self.dir / "a"))),
                 SOON_S, "it is kept")
        wait_for(lambda: (self.dir / "a" / name).read_bytes() == b"2", SOON_S, "the new one")
        self.assertIsNone(follower.process.poll())
        for each in os.listdir(bytes(self.dir / "a")):
            each.decode()

    def test_it_ends_though_its_node_hangs(self):
        follower = self.follow("a")
        self.current(follower)
        follower.process.send_signal(signal.SIGSTOP)
        put(self.node, "a/x", b"1")
        self.node.signal(signal.SIGSTOP)
        try:
            follower.process.send_signal(signal.SIGCONT)
            follower.process.send_signal(signal.SIGTERM)
            follower.process.wait(SOON_S)
        finally:
            self.node.signal(signal.SIGCONT)

    def test_an_event_of_a_node_that_comes_back_empty(self):
        other = self.new("--join", self.node.at).start()
        self.wait_all_alive()
        for i in range(5):
            put(self.node, f"a/{i}", b"%d" % i)
        put_tar(self.node, "a/d", {"1": b"1"}, "?atomic=1")
        follower = Follower(self, other, "a", self.dir).start()
        self.wait_equal(node=self.node)
        self.current(follower)
        follower.process.send_signal(signal.SIGSTOP)
        put(self.node, "a/3", b"new")
        put_tar(self.node, "a/d", {"1": b"2"}, "?atomic=1")
        wait_for(lambda: other.status()["fingerprint"] == self.node.status()["fingerprint"], SOON_S,
                 "the other one knows")
        self.node.stop()
        other.kill()
        shutil.rmtree(other.data)
        other.start("--join", self.node.at)
        follower.process.send_signal(signal.SIGCONT)
        wait_for(lambda: follower.has_told("trouble", "") or follower.state.get("error"), SOON_S,
                 "it says that the tree is gone")
        self.assertTrue((self.dir / "a/3").exists() and (self.dir / "a/d/1").exists())
        self.node.start()
        wait_for(lambda: seen(self.dir).get("a/3") == b"new", SOON_S, "it goes on")


if __name__ == "__main__":
    harness.main()
