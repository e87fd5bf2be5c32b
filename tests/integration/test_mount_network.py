# SPDX-License-Identifier: Apache-2.0
"""Mounts of several nodes show one tree."""

import os
import threading
import time
import unittest

import harness
import mount
from harness import MIB, check, content, file_id
from test_members import Nodes
from trees import listing, versions, wait_on, wait_same


class TwoMounts(Nodes):
    def setUp(self):
        why = mount.need()
        if why:
            self.skipTest(why)
        super().setUp()

    def mounts(self, count=2):
        """So many nodes that know each other; gives the paths of a mount of each."""
        nodes = self.network(count)
        for number, node in enumerate(nodes):
            one = mount.Mount(node, self.root / f"mount-{number}")
            self.stack.callback(one.kill)
            one.start()
            setattr(node, "mount", one)
        return [node.mount.path for node in nodes]

    def end(self):
        """Every mount ends cleanly, with nothing left to say."""
        for node in self.nodes:
            node.mount.stop()

    def seen(self, condition, what):
        """Waits for it; gives how long that took, in seconds."""
        begin = time.monotonic()

        def quietly():
            try:
                return condition()
            except OSError:
                return False

        wait_on(self.nodes, quietly, what)
        return time.monotonic() - begin

    def test_what_is_closed_here_is_seen_there(self):
        a, b = self.mounts()
        delays = []
        for number in range(10):
            data = content(number, 1000 + number * 100000)
            here, there = (a, b) if number % 2 else (b, a)
            (here / f"f{number}").write_bytes(data)
            delays.append(self.seen((there / f"f{number}").exists, f"f{number}"))
            self.assertEqual((there / f"f{number}").read_bytes(), data)
        delays.sort()
        print(f"closed here, seen there: median {delays[5] * 1e3:.0f} ms, "
              f"slowest {delays[-1] * 1e3:.0f} ms", flush=True)  # fmt: skip
        self.assertEqual(sorted(os.listdir(a)), sorted(os.listdir(b)))
        self.end()

    def test_what_the_kernel_remembers_is_forgotten_when_others_change_it(self):
        a, b = self.mounts()
        (a / "f").write_bytes(b"first")
        self.seen((b / "f").exists, "f")
        for number in range(8):
            # B's kernel holds content, length, name, listing and the absence of a name.
            before = (b / "f").read_bytes()
            self.assertFalse((b / f"new{number}").exists())
            listed = os.listdir(b)
            data = b"version %d" % number + b"." * (number * 3000)
            self.assertNotEqual(before, data)
            (a / "f").write_bytes(data)
            (a / f"new{number}").write_bytes(b"%d" % number)
            self.seen(lambda: (b / "f").read_bytes() == data, f"version {number}")
            self.seen((b / f"new{number}").exists, f"new{number}")
            self.assertEqual((b / "f").stat().st_size, len(data))
            self.seen(lambda: set(os.listdir(b)) == {*listed, f"new{number}"}, "the listing")
        self.end()

    def test_an_open_file_whose_content_another_node_replaces(self):
        """Its reader reads the old or the new, never a mixture of both and never an error."""
        a, b = self.mounts()
        (a / "f").write_bytes(b"0" * 3 * MIB)
        self.seen(lambda: (b / "f").stat().st_size == 3 * MIB, "f")
        fd = os.open(b / "f", os.O_RDONLY)
        self.assertEqual(os.pread(fd, 4096, 0), b"0" * 4096)
        for number in range(1, 5):
            (a / "f").write_bytes(b"%d" % number * 3 * MIB)
            self.seen(lambda: (b / "f").read_bytes()[:1] == b"%d" % number, f"version {number}")
            data = os.pread(fd, MIB, MIB)
            self.assertEqual(len(data), MIB)
            self.assertEqual(data.strip(data[:1]), b"")
        os.close(fd)
        self.end()

    def test_names_that_go_and_move(self):
        a, b = self.mounts()
        (a / "d/e").mkdir(parents=True)
        (a / "d/e/f").write_bytes(b"deep")
        self.seen((b / "d/e/f").exists, "f")
        os.rename(b / "d", b / "moved")
        self.seen((a / "moved/e/f").exists, "the move")
        self.seen(lambda: not (a / "d").exists(), "the old name goes")
        os.unlink(a / "moved/e/f")
        self.seen(lambda: not (b / "moved/e/f").exists(), "the removal")
        self.seen(lambda: os.listdir(b / "moved/e") == [], "the listing")
        os.rmdir(b / "moved/e")
        self.seen(lambda: os.listdir(a / "moved") == [], "the removal of a directory")
        os.symlink("target", a / "link")
        self.seen(lambda: os.readlink(b / "link") == "target", "a link")
        os.unlink(b / "link")
        os.mkdir(b / "link")
        self.seen((a / "link").is_dir, "a name that is something else now")
        self.end()

    def test_modes_times_and_attributes_travel(self):
        a, b = self.mounts()
        (a / "f").write_bytes(b"x")
        self.seen((b / "f").exists, "f")
        (a / "f").chmod(0o751)
        self.seen(lambda: (b / "f").stat().st_mode & 0o777 == 0o751, "the mode")
        os.utime(a / "f", ns=(0, 1_000_000_000_123_456_789))
        self.seen(lambda: (b / "f").stat().st_mtime_ns == 1_000_000_000_123_456_789, "the time")
        os.setxattr(a / "f", "user.colour", b"red")
        self.seen(lambda: os.getxattr(b / "f", "user.colour") == b"red", "the attribute")
        self.assertEqual((b / "f").read_bytes(), b"x")
        self.end()

    def test_what_the_node_tells_of_a_file(self):
        a, b = self.mounts()
        data = content("told", 700000)
        (a / "f").write_bytes(data)
        self.seen((b / "f").exists, "f")
        for path in (a / "f", b / "f"):
            self.assertEqual(os.getxattr(path, "artel.id").decode(), file_id(data))
        holders = os.getxattr(b / "f", "artel.holders").decode()
        self.assertIn("n0", holders.split())
        for name in ("artel.id", "artel.holders"):
            with self.assertRaises(OSError):
                os.setxattr(a / "f", name, b"x")
        self.end()

    def test_two_who_write_different_files_of_one_directory(self):
        a, b = self.mounts()
        count = harness.scaled(100)
        (a / "d").mkdir()
        self.seen((b / "d").exists, "d")
        errors = []

        def write(path, name):
            try:
                for number in range(count):
                    file = path / "d" / f"{name}{number}"
                    file.write_bytes(b"%s %d" % (name.encode(), number))
                    if number % 5 == 4:
                        file = file.rename(f"{file}.moved")
                    if number % 7 == 6:
                        file.unlink()
            except OSError as error:
                errors.append(error)

        writers = [threading.Thread(target=write, args=each) for each in ((a, "a"), (b, "b"))]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        self.assertEqual(errors, [])
        ours = [name for name in os.listdir(a / "d") if name.startswith("a")]
        theirs = [name for name in os.listdir(b / "d") if name.startswith("b")]
        for path in (a, b):
            self.seen(lambda: set(os.listdir(path / "d")) == {*ours, *theirs}, "all files")
            for name in (*ours, *theirs):
                number = int(name[1:].removesuffix(".moved"))
                self.assertEqual((path / "d" / name).read_bytes(), b"%s %d" % (name[:1].encode(), number))
        for entry in wait_same(self.nodes).values():
            self.assertNotIn("conflicts", entry)
        self.end()

    def test_two_who_write_one_file(self):
        """One content wins, everywhere the same; the other one stands in the log."""
        a, b = self.mounts()
        (a / "f").write_bytes(b"before")
        self.seen((b / "f").exists, "f")
        for number in range(3):
            texts = [b"from a %d" % number, b"from b %d" % number]
            fds = [os.open(path / "f", os.O_WRONLY | os.O_TRUNC) for path in (a, b)]
            for fd, text in zip(fds, texts):
                os.write(fd, text)
            closers = [threading.Thread(target=os.close, args=(fd,)) for fd in fds]
            for each in closers:
                each.start()
            for each in closers:
                each.join()
            ids = {file_id(text) for text in texts}
            for node in self.nodes:
                wait_on(self.nodes, lambda: ids <= {each.get("id") for each in versions(node, "f").values()},
                        f"both versions at {node.name}")  # fmt: skip
            wait_same(self.nodes)
            self.seen(lambda: (a / "f").read_bytes() == (b / "f").read_bytes(), "one content")
            self.assertIn((a / "f").read_bytes(), texts)
        self.end()

    def test_mounts_and_http_are_one_tree(self):
        a, b = self.mounts()
        one, two = self.nodes
        check(one.put("by-http", b"http").status == 201, "put")
        self.seen(lambda: (b / "by-http").read_bytes() == b"http", "a file put over HTTP")
        (b / "by-mount").write_bytes(b"mount")
        self.seen(lambda: one.get("/fs/by-mount").body == b"mount", "a file of a mount, over HTTP")
        check(two.delete("by-http").status in (200, 204), "delete")
        self.seen(lambda: not (a / "by-http").exists(), "a removal over HTTP")
        check(one.post("by-mount", {"op": "rename", "to": "d/other"}).status == 200, "rename")
        self.seen(lambda: (b / "d/other").read_bytes() == b"mount", "a rename over HTTP")
        self.assertEqual(set(listing(one)), {"d", "d/other"})
        self.end()

    def test_a_large_file_is_fetched_as_it_is_read(self):
        a, b = self.mounts()
        data = content("large", harness.scaled(24) * MIB + 77)
        (a / "large").write_bytes(data)
        self.seen(lambda: (b / "large").stat().st_size == len(data), "large")
        with open(b / "large", "rb") as file:
            for offset in (len(data) - 5, 10 * MIB + 3, 0):
                file.seek(offset)
                self.assertEqual(file.read(100000), data[offset : offset + 100000])
        self.assertEqual((b / "large").read_bytes(), data)
        self.end()

    def test_content_that_nobody_has_is_an_error_and_not_a_wait(self):
        a, b = self.mounts()
        data = content("gone", 3 * MIB)
        (a / "f").write_bytes(data)
        self.seen(lambda: (b / "f").stat().st_size == len(data), "f")
        self.nodes[0].mount.stop()
        self.nodes[0].stop()
        with self.assertRaises(OSError):
            (b / "f").read_bytes()
        self.assertEqual((b / "f").stat().st_size, len(data))
        self.nodes[1].mount.stop()


if __name__ == "__main__":
    unittest.main()
