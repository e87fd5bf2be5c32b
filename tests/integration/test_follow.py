# SPDX-License-Identifier: Apache-2.0
"""`artel follow`: a directory that is kept equal to a part of the tree."""

import json
import os
import pathlib
import shutil
import signal
import threading

import harness
from following import Follower, Following, seen
from harness import content, wait_for
from test_members import Nodes
from trees import SOON_S, put, put_tar


class Files(Following):
    def test_what_is_there_and_what_comes(self):
        put(self.node, "a/one", b"1")
        put(self.node, "a/b/two", content("two", 700_000))
        put(self.node, "other", b"not followed")
        self.node.put("a/run", b"#!", query="?mode=0755&mtime=1234567890.5")
        self.node.request("PUT", "/fs/a/link?symlink=b/two")
        self.node.post("a/empty", {"op": "mkdir"})
        self.follow()
        self.wait_equal()
        info = (self.dir / "a/run").stat()
        self.assertEqual((info.st_mode & 0o777, info.st_mtime), (0o755, 1234567890.5))
        put(self.node, "a/new", b"n")
        put(self.node, "a/one", b"another")
        self.delete("a/b/two")
        self.wait_equal()
        self.assertFalse((self.dir / "a/b").exists(), "nobody made it, and nothing is in it")

    def test_a_rename_moves(self):
        """The content is not fetched again: it is the same file."""
        put_tar(self.node, "a/d", {f"{i}": content(i, 1000) for i in range(50)})
        put(self.node, "a/x", b"x")
        self.follow()
        self.wait_equal()
        inodes = {place.name: place.stat().st_ino for place in (self.dir / "a/d").iterdir()}
        inode = (self.dir / "a/x").stat().st_ino
        self.rename("a/d", "a/e")
        self.wait_equal()
        self.rename("a/x", "a/e/y")
        self.wait_equal()
        self.assertEqual((self.dir / "a/e/y").stat().st_ino, inode)
        for name, number in inodes.items():
            self.assertEqual((self.dir / "a/e" / name).stat().st_ino, number)

    def test_a_file_becomes_a_directory_and_back(self):
        put(self.node, "a/x", b"file")
        follower = self.follow()
        self.wait_equal()
        self.delete("a/x")
        put(self.node, "a/x/y", b"below")
        self.wait_equal()
        self.delete("a/x/y")
        put(self.node, "a/x", b"again")
        self.wait_equal()
        follower.stop()
        self.delete("a/x")
        put(self.node, "a/x/y/z", b"deeper")
        self.follow()
        self.wait_equal()
        self.assertFalse([path for path in seen(self.dir) if ".local-" in path])

    def test_what_happened_while_it_was_away(self):
        for i in range(20):
            put(self.node, f"a/{i}", b"%d" % i)
        follower = self.follow()
        self.wait_equal()
        follower.stop()
        for i in range(10):
            put(self.node, f"a/{i}", b"new %d" % i)
        self.delete("a/15")
        self.rename("a/16", "a/sub/16")
        inode = (self.dir / "a/16").stat().st_ino
        self.follow()
        self.wait_equal()
        self.assertEqual((self.dir / "a/sub/16").stat().st_ino, inode)

    def test_a_pattern(self):
        put(self.node, "a/x.txt", b"1")
        put(self.node, "a/y.bin", b"2")
        put(self.node, "b/c/z.txt", b"3")
        self.follow("**/*.txt")
        want = {"a": None, "a/x.txt": b"1", "b": None, "b/c": None, "b/c/z.txt": b"3"}
        wait_for(lambda: self.dir.exists() and seen(self.dir) == want, SOON_S, "only texts")
        self.rename("b", "d")
        self.rename("a/y.bin", "a/y.txt")
        want = {"a": None, "a/x.txt": b"1", "a/y.txt": b"2", "d": None, "d/c": None,
                "d/c/z.txt": b"3"}
        wait_for(lambda: seen(self.dir) == want, SOON_S, "the rename of a directory above")

    def test_a_pattern_that_nothing_can_match(self):
        for pattern in ("../x", "a//b", "a/./b/*", "*/"):
            result = harness.run("follow", pattern, "--to", self.dir, "--node", self.node.url)
            self.assertEqual(result.status, 2, pattern)
            self.assertIn("no such pattern can be", result.err)
        self.assertFalse(self.dir.exists())

    def test_a_command_prints_nothing_into_json(self):
        put(self.node, "a/one", b"1")
        follower = Follower(self, self.node, "a", self.dir, command="echo no json").start()
        wait_for(lambda: follower.has_told("put", "a/one") and follower.state.get("current")
                 and follower.state["hooks"] == 0, SOON_S, "it ran")

    def test_one_at_a_time(self):
        follower = self.follow()
        wait_for(lambda: follower.state.get("current"), SOON_S, "it follows")
        result = harness.run("follow", "b", "--to", self.dir, "--node", self.node.url)
        self.assertEqual(result.status, 1)
        self.assertIn("already", result.err)

    def test_the_content_comes_from_another_node(self):
        other = self.new("--join", self.node.at).start()
        self.wait_all_alive()
        put(self.node, "a/large", content("large", 3_000_000))
        put(self.node, "a/small", b"small")
        Follower(self, other, "a", self.dir).start()
        self.wait_equal()

    def test_its_node_loses_its_data(self):
        """The cursor is of another feed then; the network knows the tree."""
        other = self.new("--join", self.node.at).start()
        self.wait_all_alive()
        put(self.node, "a/x", b"1")
        put(self.node, "a/y", b"stays")
        follower = Follower(self, other, "a", self.dir).start()
        self.wait_equal()
        other.stop()
        shutil.rmtree(other.data)
        put(self.node, "a/x", b"2")
        self.delete("a/y")
        put(self.node, "a/z", b"3")
        other.start()
        self.wait_equal()
        wait_for(lambda: follower.state.get("current"), SOON_S, "all is done")


    def test_a_node_without_its_tree_is_no_reason_to_delete(self):
        other = self.new("--join", self.node.at).start()
        self.wait_all_alive()
        for i in range(20):
            put(self.node, f"a/{i}", b"%d" % i)
        command, done = self.hook()
        follower = Follower(self, other, "a", self.dir, command=command).start()
        self.wait_equal()
        wait_for(lambda: follower.state.get("current") and not follower.state["hooks"], SOON_S,
                 "all is done")
        follower.stop()
        self.node.stop()
        other.stop()
        shutil.rmtree(other.data)
        other.start()  # empty
        self.node.start()
        follower.start()
        self.delete("a/7")
        wait_for(lambda: "delete  a/7" in done(), SOON_S, "the one that was deleted")
        self.wait_equal()
        self.assertEqual([told for told in done() if told.startswith("delete")], ["delete  a/7"])


class Changed(Following):
    def test_what_somebody_changed_is_kept(self):
        for name in ("replaced", "deleted", "left"):
            put(self.node, f"a/{name}", b"theirs")
        follower = self.follow()
        self.wait_equal()
        for name in ("replaced", "deleted", "left"):
            (self.dir / "a" / name).write_bytes(b"mine " + name.encode())
        (self.dir / "a/taken").write_bytes(b"mine")
        put(self.node, "a/replaced", b"new")
        self.delete("a/deleted")
        put(self.node, "a/taken", b"theirs")
        wait_for(lambda: seen(self.dir).get("a/taken") == b"theirs", SOON_S, "what comes later")

        def kept():
            return {path.split(".local-")[0]: data
                    for path, data in seen(self.dir).items() if ".local-" in path}

        want = {"a/replaced": b"mine replaced", "a/deleted": b"mine deleted", "a/taken": b"mine"}
        wait_for(lambda: kept() == want, SOON_S, "three are kept")
        for path in want:
            wait_for(lambda path=path: follower.has_told("kept", path), SOON_S, f"{path} is told")
        self.assertEqual((self.dir / "a/replaced").read_bytes(), b"new")
        self.assertFalse((self.dir / "a/deleted").exists())
        self.assertEqual((self.dir / "a/left").read_bytes(), b"mine left")
        follower.stop()
        follower.start()
        wait_for(lambda: follower.has_told("trouble", "a/left"), SOON_S, "it says so")
        self.assertEqual((self.dir / "a/left").read_bytes(), b"mine left")
        self.assertEqual(kept(), want)

    def test_a_directory_that_is_filled_already(self):
        """Equal files are taken for what they are, others kept."""
        put(self.node, "a/same", b"same")
        put(self.node, "a/other", b"theirs")
        (self.dir / "a").mkdir(parents=True)
        (self.dir / "a/same").write_bytes(b"same")
        (self.dir / "a/other").write_bytes(b"mine")
        (self.dir / "a/more").write_bytes(b"more")
        inode = (self.dir / "a/same").stat().st_ino
        self.follow()
        wait_for(lambda: seen(self.dir).get("a/other") == b"theirs", SOON_S, "the other")
        self.assertEqual((self.dir / "a/same").stat().st_ino, inode)
        self.assertEqual((self.dir / "a/more").read_bytes(), b"more")
        self.assertIn(b"mine", seen(self.dir).values())

    def test_links_lead_nowhere(self):
        """A link that somebody put in place of a directory is not gone through."""
        put(self.node, "a/d/x", b"1")
        self.follow()
        self.wait_equal()
        outside = self.root / "outside"
        outside.mkdir()
        os.rename(self.dir / "a/d", self.root / "moved")
        os.symlink(outside, self.dir / "a/d")
        put(self.node, "a/d/y", b"2")
        wait_for(lambda: seen(self.dir).get("a/d/y") == b"2", SOON_S, "a directory again")
        self.assertEqual(list(outside.iterdir()), [])


class Hooks(Following):
    def test_each_arrival(self):
        put(self.node, "a/before", b"0")
        command, done = self.hook()
        follower = self.follow(command=command)
        wait_for(lambda: done() == ["put  a/before"], SOON_S, "what was there")
        put(self.node, "a/x", b"1")
        wait_for(lambda: done()[1:] == ["put  a/x"], SOON_S, "a file")
        self.rename("a/x", "a/y")
        wait_for(lambda: done()[2:] == ["rename a/x a/y"], SOON_S, "a rename")
        put_tar(self.node, "a/d", {"1": b"1", "2": b"2"}, "?atomic=1")
        wait_for(lambda: done()[3:] == ["atomic  a/d"], SOON_S, "a directory in one step")
        self.delete("a/y")
        wait_for(lambda: done()[4:] == ["delete  a/y"], SOON_S, "a deletion")
        wait_for(lambda: follower.state.get("current") and not follower.state["hooks"], SOON_S,
                 "all is done")
        follower.stop()
        follower.start()
        wait_for(lambda: follower.state.get("current"), SOON_S, "it follows again")
        self.assertEqual(len(done()), 5, "what was told is not told again")

    def test_it_is_run_until_it_succeeds(self):
        ready = self.root / "ready"
        log = self.root / "log"
        command = f'echo "$ARTEL_PATH" >> {log}; test -e {ready}'
        follower = self.follow(command=command)
        put(self.node, "a/x", b"1")

        def runs():
            return log.read_text().split() if log.exists() else []

        wait_for(runs, SOON_S, "a run")
        put(self.node, "a/y", b"1")
        wait_for(lambda: len(runs()) >= 2, SOON_S, "it is run again")
        self.assertEqual(set(runs()), {"a/x"}, "in order")
        follower.kill()
        count = len(runs())
        follower.start()
        wait_for(lambda: len(runs()) > count, SOON_S, "after a crash, too")
        ready.touch()
        wait_for(lambda: runs()[-1] == "a/y", SOON_S, "the next one")

    def test_its_environment(self):
        log = self.root / "env"
        self.follow(command=f"env | grep ^ARTEL_ | sort > {log}.part; mv {log}.part {log}")
        put(self.node, "a/x", b"1")
        wait_for(log.exists, SOON_S, "a run")
        told = dict(line.split("=", 1) for line in log.read_text().splitlines())
        self.assertEqual(told["ARTEL_ID"], harness.file_id(b"1"))
        self.assertEqual(told["ARTEL_FILE"], str(self.dir / "a/x"))
        self.assertEqual(told["ARTEL_DIR"], str(self.dir))
        self.assertEqual(told["ARTEL_NODE"], self.node.url)


class Atomic(Following):
    def versions(self, name="d"):
        return sorted(place.name for place in (self.dir / "a/.artel").glob(f"{name}.*"))

    def publish(self, number, count=20, path="a/d"):
        files = {f"{i}": b"%d" % number for i in range(count)} | {"same": b"same"}
        put_tar(self.node, path, files, "?atomic=1")
        self.wait_equal()

    def test_it_is_switched(self):
        follower = self.follow("a", "--keep", "2")
        self.publish(1)
        self.assertTrue((self.dir / "a/d").is_symlink())
        first = os.readlink(self.dir / "a/d")
        inode = (self.dir / "a/d/same").stat().st_ino
        for number in range(2, 6):
            self.publish(number)
            self.assertEqual((self.dir / "a/d/same").stat().st_ino, inode, "it is linked")
        self.assertNotEqual(os.readlink(self.dir / "a/d"), first)
        wait_for(lambda: len(self.versions()) == 3, SOON_S, "two old ones are kept")
        olds = [self.dir / "a/.artel" / name for name in self.versions()]
        self.assertEqual(sorted((old / "0").read_bytes() for old in olds), [b"3", b"4", b"5"])
        follower.stop()
        follower.start()
        wait_for(lambda: follower.state.get("current"), SOON_S, "it follows again")
        self.assertEqual(len(self.versions()), 3, "nothing is made anew")

    def test_nobody_sees_a_mixture(self):
        self.follow()
        self.publish(0)
        is_over = threading.Event()
        mixed = []

        def look():
            while not is_over.is_set():
                fd = os.open(self.dir / "a/d", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    data = set()
                    for i in range(20):
                        one = os.open(str(i), os.O_RDONLY, dir_fd=fd)
                        data.add(os.read(one, 100))
                        os.close(one)
                    if len(data) != 1:
                        mixed.append(data)
                except FileNotFoundError:
                    pass  # as old as it was, it has gone
                finally:
                    os.close(fd)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number in range(harness.scaled(30)):
                put_tar(self.node, "a/d", {f"{i}": b"%d" % number for i in range(20)}, "?atomic=1")
            self.wait_equal()
        finally:
            is_over.set()
            thread.join()
        self.assertEqual(mixed, [])

    def test_one_that_was_published_before(self):
        put_tar(self.node, "a/d", {"x": b"1", "e/y": b"2"}, "?atomic=1")
        self.follow()
        self.wait_equal()
        self.assertTrue((self.dir / "a/d").is_symlink())

    def test_a_change_in_it(self):
        self.follow()
        self.publish(1)
        before = os.readlink(self.dir / "a/d")
        put(self.node, "a/d/more", b"more")
        self.delete("a/d/7")
        self.wait_equal()
        self.assertNotEqual(os.readlink(self.dir / "a/d"), before)

    def test_a_plain_directory_becomes_one(self):
        put_tar(self.node, "a/d", {"x": b"1", "y": b"2"})
        self.follow()
        self.wait_equal()
        self.assertFalse((self.dir / "a/d").is_symlink())
        (self.dir / "a/d/mine").write_bytes(b"mine")
        put_tar(self.node, "a/d", {"x": b"1", "z": b"3"}, "?atomic=1")
        self.wait_equal()
        self.assertTrue((self.dir / "a/d").is_symlink())
        self.assertIn(b"mine", [place.read_bytes() for place in self.dir.rglob("*/mine")])

    def test_it_goes_and_moves(self):
        self.follow()
        self.publish(1)
        self.rename("a/d", "a/e")
        self.wait_equal()
        self.assertTrue((self.dir / "a/e").is_symlink())
        wait_for(lambda: not self.versions(), SOON_S, "nothing of the old name is left")
        self.delete("a/e", "?recursive=1")
        wait_for(lambda: not (self.dir / "a/e").is_symlink(), SOON_S, "it has gone")
        put(self.node, "a/e", b"a file")
        self.wait_equal()

    def test_going_back(self):
        self.follow()
        self.publish(1)
        old = os.readlink(self.dir / "a/d")
        self.publish(2)
        os.symlink(old, self.root / "link")
        os.rename(self.root / "link", self.dir / "a/d")
        self.assertEqual((self.dir / "a/d/0").read_bytes(), b"1")
        self.publish(3)

    def test_a_change_of_somebody_in_an_old_version(self):
        follower = self.follow("a", "--keep", "0")
        self.publish(1)
        (self.dir / "a/d/3").write_bytes(b"mine")
        self.publish(2)
        wait_for(lambda: any(told["event"] == "kept" for told in follower.told), SOON_S, "kept")
        self.assertIn(b"mine", [place.read_bytes() for place in self.dir.rglob("*/3")])


class InTheNode(Nodes):
    """`follow` in its settings."""

    def setUp(self):
        super().setUp()
        self.dirs = [self.root / "one", self.root / "two"]
        log = self.root / "log"
        self.log = lambda: log.read_text().splitlines() if log.exists() else []
        config = self.root / "config"
        config.write_text(f"follow = a/** -> {self.dirs[0]} keep 2 exec echo $ARTEL_PATH >> {log}\n"
                          f"follow = b -> {self.dirs[1]}\n")
        self.node = self.new("--config", config).start()

    def follows(self):
        return self.node.status()["follows"]

    def pid(self, number=0):
        state = self.dirs[number] / ".artel-follow/state"
        return json.loads(state.read_text())["pid"] if state.exists() else None

    def wait_current(self):
        wait_for(lambda: all(each["state"] == "current" for each in self.follows()), SOON_S,
                 "all follow")

    def wait_gone(self, pid):
        def is_gone():
            try:
                status = pathlib.Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                return True
            return status.rsplit(")", 1)[1].split()[0] == "Z"

        wait_for(is_gone, SOON_S, "its process has ended")

    def test_it_starts_and_ends_with_the_node(self):
        self.wait_current()
        put(self.node, "a/x", b"1")
        put(self.node, "b", b"2")
        wait_for(lambda: seen(self.dirs[0]) == {"a": None, "a/x": b"1"}, SOON_S, "the first")
        wait_for(lambda: seen(self.dirs[1]) == {"b": b"2"}, SOON_S, "the second")
        wait_for(lambda: self.log() == ["a/x"], SOON_S, "the command of the first")
        self.wait_current()
        first, second = self.follows()
        self.assertEqual((first["pattern"], first["dir"]), ("a/**", str(self.dirs[0])))
        self.assertEqual((second["entries"], second["restarts"]), (1, 0))
        told = harness.run("status", "--node", self.node.url).out.decode()
        self.assertIn(f"b -> {self.dirs[1]}: current, 1 entries", told)
        pids = [self.pid(0), self.pid(1)]
        self.node.stop()
        for pid in pids:
            self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())

    def test_one_that_ends_is_started_again(self):
        self.wait_current()
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid() != pid, SOON_S, "another process")
        put(self.node, "a/x", b"1")
        wait_for(lambda: seen(self.dirs[0]) == {"a": None, "a/x": b"1"}, SOON_S, "it follows")
        wait_for(lambda: self.follows()[0]["restarts"] == 1, SOON_S, "the node says so")

    def test_none_outlives_a_killed_node(self):
        self.wait_current()
        pids = [self.pid(0), self.pid(1)]
        self.node.kill()
        for pid in pids:
            self.wait_gone(pid)
        self.node.start()
        self.wait_current()

    def test_trouble_is_told(self):
        node = self.new("--follow", f"a -> {self.root}/three exec exit 3").start()
        put(node, "a/x", b"1")

        def trouble():
            return "status 3" in node.status()["follows"][0].get("error", "")

        wait_for(trouble, SOON_S, "the command failed")
        self.assertEqual(node.status()["follows"][0]["hooks"], 1)

    def test_what_makes_no_sense(self):
        for entry in ("a", "a -> b", "-> /b", "a -> /b keep some", "a -> /b exec "):
            result = harness.run("node", "--data", self.root / "other", "--listen", "127.0.0.1:0",
                                 "--follow", entry)
            self.assertEqual(result.status, 2, entry)
            self.assertIn("follow number 1", result.err)


del Following, Nodes  # their cases are those of the classes above

if __name__ == "__main__":
    harness.main()
