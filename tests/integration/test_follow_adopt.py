# SPDX-License-Identifier: Apache-2.0
"""A followed directory is its node's copy of what is in it: it costs its bytes once."""

import os
import random
import shutil

import harness
from following import Follower, Following, of_tree, seen
from harness import MIB, SEED, check, content, wait_for
from trees import SOON_S, put, put_tar, wait_on, wait_same

SIZE = 3 * MIB + 4321


def disk_bytes(*directories):
    """What they take on the disk, a file with several names once."""
    found = {}
    for directory in directories:
        for folder, names, files in os.walk(directory):
            for name in names + files:
                try:
                    info = os.lstat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue  # it changes underneath
                found[info.st_dev, info.st_ino] = 512 * info.st_blocks
    return sum(found.values())


class Adopting(Following):
    def setUp(self):
        super().setUp()
        self.keeper = self.new("--join", self.node.at).start()
        self.third = self.new("--join", self.node.at).start()
        self.wait_all_alive()

    def follow_there(self, *options, **more):
        return Follower(self, self.keeper, "a", self.dir, *options, **more).start()

    def publish(self, name, version=0, size=SIZE):
        data = content(f"{name} {version}", size)
        put(self.node, f"a/{name}", data)
        return data

    def stored(self, name):
        return self.keeper.status()["store"][name]

    def wait_adopted(self, count, what="all of it is adopted", within_s=SOON_S):
        """So many files outside are the only copy of what is followed there."""
        def is_adopted():
            return self.stored("external_files") == count and self.stored("live_bytes") < MIB

        try:
            wait_on([self.keeper], is_adopted, what, within_s)
        except harness.Failure as failure:
            raise harness.Failure(f"{failure}\n{self.stored('external_files')} of {count}, "
                                  f"{self.stored('live_bytes')} bytes") from None

    def check_served(self, files):
        """From the followed directory alone."""
        wait_same(self.nodes)
        self.node.kill()
        for path, data in files.items():
            answer = self.third.get(f"/fs/a/{path}")
            check(answer.status == 200 and answer.body == data, "served", path, answer.status)


class Costs(Adopting):
    def test_once_and_others_are_served(self):
        files = {f"f{i}": self.publish(f"f{i}") for i in range(8)}
        files |= {f"small{i}": self.publish(f"small{i}", size=1000 + i) for i in range(5)}
        follower = self.follow_there()
        self.wait_equal()
        self.wait_adopted(8)
        content_bytes = sum(len(data) for data in files.values())
        wait_for(lambda: disk_bytes(self.keeper.data, self.dir) < 1.3 * content_bytes, SOON_S,
                 "the disk has it once")
        self.assertFalse(any(told["event"] in ("trouble", "notice") for told in follower.told))
        # What comes and what is replaced, too.
        files["f0"] = self.publish("f0", 1)
        files["g"] = self.publish("g")
        self.wait_equal()
        self.wait_adopted(9)
        self.check_served(files)
        self.assertEqual(seen(self.dir), {"a": None} | {f"a/{name}": data
                                                       for name, data in files.items()})

    def test_what_goes_is_released(self):
        kept, moved = self.publish("kept"), self.publish("moved")
        self.publish("gone")
        self.publish("replaced")
        self.publish("folded")
        self.follow_there()
        self.wait_equal()
        self.wait_adopted(5)
        self.delete("a/gone")
        self.wait_adopted(4)
        self.rename("a/moved", "a/d/moved")
        self.wait_equal()
        self.wait_adopted(4)
        new = self.publish("replaced", 1)
        self.delete("a/folded")
        put(self.node, "a/folded/small", b"small")
        self.wait_equal()
        self.wait_adopted(3)
        self.node.put("a/kept", kept, query="?mtime=1234567890&mode=0700")
        self.wait_equal()
        wait_for(lambda: os.stat(self.dir / "a/kept").st_mtime == 1234567890, SOON_S, "its time")
        self.wait_adopted(3)
        self.check_served({"kept": kept, "d/moved": moved, "replaced": new,
                           "folded/small": b"small"})

    def test_what_somebody_changes_is_kept_and_fetched_again(self):
        changes = {
            "overwritten": lambda place: place.write_bytes(b"mine" * (SIZE // 4)),
            "inside": lambda place: os.pwrite(os.open(place, os.O_WRONLY), b"mine", MIB),
            "truncated": lambda place: os.truncate(place, 1000),
            "deleted": lambda place: place.unlink(),
        }
        files = {name: self.publish(name) for name in changes}
        follower = self.follow_there()
        self.wait_equal()
        self.wait_adopted(len(files))
        for name, change in changes.items():
            change(self.dir / "a" / name)
        for name, data in files.items():
            answer = self.keeper.get(f"/fs/a/{name}")
            check(answer.status == 200 and answer.body == data, "its own again", name, answer)
        self.assertEqual(self.stored("external_files"), 0)
        new = {name: self.publish(name, 1) for name in files}
        wait_for(lambda: all(seen(self.dir).get(f"a/{name}") == data for name, data in new.items()),
                 SOON_S, "the next version")
        for name in ("overwritten", "inside", "truncated"):
            wait_for(lambda name=name: follower.has_told("kept", f"a/{name}"), SOON_S, name)
        kept = {path.split(".local-")[0] for path in seen(self.dir) if ".local-" in path}
        self.assertEqual(kept, {"a/overwritten", "a/inside", "a/truncated"})
        wait_on([self.keeper], lambda: self.stored("external_files") == len(files), "adopted")
        self.assertEqual(self.stored("lost_blocks"), 0)
        self.check_served(new)

    def test_a_change_is_found_by_the_follower(self):
        """When it compares, and nobody has asked the node for it."""
        self.publish("x")
        follower = self.follow_there()
        self.wait_equal()
        self.wait_adopted(1)
        follower.stop()
        (self.dir / "a/x").write_bytes(b"mine")
        follower.start()
        wait_for(lambda: self.stored("external_files") == 0, SOON_S, "the node knows")
        self.assertEqual((self.dir / "a/x").read_bytes(), b"mine")


class Versions(Adopting):
    def atomic(self, number, **more):
        files = {"same": content("same", SIZE), "part": content(f"part {number}", SIZE),
                 "small": b"%d" % number} | more
        put_tar(self.node, "a/d", files, "?atomic=1")
        self.wait_equal()
        return {f"d/{name}": data for name, data in files.items()}

    def test_versions_share_what_is_the_same(self):
        self.follow_there("--keep", "1")
        self.atomic(1)
        self.wait_adopted(2)
        for number in range(2, 5):
            files = self.atomic(number)
            # The file that is the same counts once, by its newest name.
            self.wait_adopted(3, f"version {number}")
        self.assertEqual(len({place.stat().st_ino for place in (self.dir / "a").rglob("same")}), 1)
        limit = 3 * SIZE + 2 * MIB
        wait_for(lambda: disk_bytes(self.keeper.data, self.dir) < limit, SOON_S,
                 "what old versions have alone is there once, too")
        self.check_served(files)

    def test_a_directory_becomes_one_and_moves_and_goes(self):
        same = content("same", SIZE)
        put(self.node, "a/d/same", same)
        self.follow_there("--keep", "0")
        self.wait_equal()
        self.wait_adopted(1)
        self.atomic(1)
        self.wait_adopted(2)
        self.rename("a/d", "a/e")
        self.wait_equal()
        self.wait_adopted(2)
        self.assertEqual(self.third.get("/fs/a/e/same").body, same)
        self.delete("a/e", "?recursive=1")
        self.wait_equal()
        self.wait_adopted(0)


class Others(Adopting):
    def test_a_new_data_directory(self):
        files = {f"f{i}": self.publish(f"f{i}") for i in range(4)}
        files["small"] = self.publish("small", size=5000)
        self.follow_there()
        self.wait_equal()
        self.wait_adopted(4)
        self.keeper.stop()
        shutil.rmtree(self.keeper.data)
        self.keeper.start()
        wait_same(self.nodes)
        # It is asked to get what it does not know after a while, when it has its tree.
        self.wait_adopted(4, within_s=2 * SOON_S)
        self.check_served(files)

    def test_an_older_index(self):
        """Of a follower that had nobody to adopt: as one of another machine."""
        socket = self.keeper.data / "socket"
        os.rename(socket, self.root / "hidden")
        files = {f"f{i}": self.publish(f"f{i}") for i in range(3)}
        follower = self.follow_there()
        self.wait_equal()
        wait_for(lambda: follower.state.get("current"), SOON_S, "all is here")
        self.delete("a/f2")
        self.wait_equal()
        follower.stop()
        self.assertEqual(self.stored("external_files"), 0)
        self.assertFalse(any(told["event"] in ("trouble", "notice") for told in follower.told))
        os.rename(self.root / "hidden", socket)
        follower.start()
        del files["f2"]
        wait_on([self.keeper], lambda: self.stored("external_files") == 2, "adopted")
        self.check_served(files)

    def test_in_the_node(self):
        node = self.new("--join", self.node.at, "--follow", f"a -> {self.dir}").start()
        files = {f"f{i}": self.publish(f"f{i}") for i in range(3)}
        wait_for(lambda: self.dir.exists() and seen(self.dir) == of_tree(self.node, "a"), SOON_S,
                 "it follows")
        self.keeper = node
        self.wait_adopted(3)
        self.check_served(files)

    def test_killed_in_between(self):
        chance = random.Random(SEED)
        names = [f"f{i}" for i in range(5)] + ["d/x"]
        follower = self.follow_there("--keep", "1")
        for number in range(harness.scaled(10, sanitized=0.3)):
            for name in chance.sample(names, 2):
                self.publish(name, chance.randrange(3), SIZE // 3)
            if chance.random() < 0.5:
                self.node.delete(f"a/{chance.choice(names)}")
            if chance.random() < 0.5:
                self.node.post(f"a/{chance.choice(names)}",
                               {"op": "rename", "to": f"a/{chance.choice(names)}"})
            put_tar(self.node, "a/v", {"same": content("same", SIZE),
                                       "part": content(number, SIZE)}, "?atomic=1")
            # After as much of it as was done in a moment that is another one each time.
            moment = chance.randrange(4)
            if moment > 0:
                wait_for(lambda: follower.state.get("arriving") is not None or
                         follower.process.poll() is not None, SOON_S, "it follows")
            if moment > 1:
                wait_for((self.dir / "a/v/same").exists, SOON_S, "it has begun")
            victims = chance.sample([follower, self.keeper], chance.randrange(1, 3))
            for victim in victims:
                victim.kill()
            for victim in victims:
                victim.start()
        self.wait_equal()
        tree = of_tree(self.node, "a")
        files = {path.removeprefix("a/"): data for path, data in tree.items()
                 if isinstance(data, bytes)}
        # Of the version before, if it came so far, what is the same counts once. The store may have
        # content, too, that was replaced before it arrived.
        wait_on([self.keeper], lambda: self.stored("external_files") ==
                len(files) + len(os.listdir(self.dir / "a/.artel")) - 1, "adopted")
        self.check_served(files)
        self.assertEqual(self.stored("lost_blocks"), 0)
        self.assertTrue(self.keeper.scrub()["complete"])
        self.assertFalse([path for path in seen(self.dir) if ".local-" in path])


del Following, Adopting  # their cases are those of the classes above

if __name__ == "__main__":
    harness.main()
