# SPDX-License-Identifier: Apache-2.0
"""What the kernel and a mount remember is never older than what is asked for: whatever changes in the
tree is there for the next who opens."""

import ctypes
import os
import unittest

import harness
from harness import KIB, check, content, wait_for
from test_mount_faults import AT_ONCE_S, OneMount

ROUNDS = harness.scaled(60, 0.2)


class Directory:
    """A directory that stays open, by the C library."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.opendir.argtypes = [ctypes.c_char_p]
    libc.readdir.argtypes = libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]

    def __init__(self, path):
        self.stream = self.libc.opendir(os.fsencode(path))
        check(self.stream, "opendir", os.strerror(ctypes.get_errno()))

    def names(self):
        """All from the beginning."""
        self.libc.rewinddir(self.stream)
        names = set()
        while entry := self.libc.readdir(self.stream):
            names.add(ctypes.string_at(entry + 19).decode())  # d_name
        return names - {".", ".."}

    def close(self):
        self.libc.closedir(self.stream)


class Caches(OneMount):
    def put(self, path, data):
        check(self.node.put(path, data).status in (200, 201), "put", path)

    def test_listings(self):
        """Of one directory again and again, while the kernel keeps its names."""
        for number in range(300):
            self.put(f"d/f{number:03}", b"")
        one = self.mount()
        names = {f"f{number:03}" for number in range(300)}
        for number in range(ROUNDS):
            for _ in range(2):
                self.assertEqual(set(os.listdir(one.path / "d")), names)
                sizes = {entry.stat().st_size for entry in os.scandir(one.path / "d")}
                self.assertEqual(sizes, {0})
            kind, name = number % 4, f"f{number:03}"
            if kind == 0:
                self.put(f"d/new{number}", b"")
                names.add(f"new{number}")
            elif kind == 1:
                check(self.node.delete(f"d/{name}").status in (200, 204), "delete", name)
                names.remove(name)
            elif kind == 2:
                (one.path / "d" / f"here{number}").write_bytes(b"")
                names.add(f"here{number}")
            else:
                os.unlink(one.path / "d" / name)
                names.remove(name)
        self.assertEqual(set(os.listdir(one.path / "d")), names)
        one.stop()

    def test_a_directory_that_stays_open(self):
        self.put("d/first", b"")
        one = self.mount()
        directory = Directory(one.path / "d")
        names = {"first"}
        try:
            for number in range(10):
                for _ in range(2):
                    self.assertEqual(directory.names(), names)
                self.put(f"d/{number}", b"")
                names.add(f"{number}")
                wait_for(lambda: directory.names() == names, AT_ONCE_S, f"{number} is listed")
        finally:
            directory.close()
        one.stop()

    def test_versions(self):
        """Who opens a file reads the newest one; who has one open reads on in that."""
        one = self.mount()
        path = one.path / "d/f"
        for number in range(ROUNDS):
            data = content(("version", number), 70 * KIB + number)
            self.put("d/f", data)
            with open(path, "rb") as file:
                self.assertEqual(os.fstat(file.fileno()).st_size, len(data))
                self.assertEqual(file.read(5), data[:5])
                if number % 3 == 0:
                    self.put("d/f", b"next")
                    self.assertEqual(path.read_bytes(), b"next")
                self.assertEqual(file.read(), data[5:])
        one.stop()

    def test_small_reads_of_what_moves(self):
        """Pieces of files, while others come and go and the node tidies up behind them."""
        one = self.mount()
        files = {f"f{number}": content(number, 300 * KIB) for number in range(8)}
        for name, data in files.items():
            self.put(name, data)
        opened = {name: os.open(one.path / name, os.O_RDONLY) for name in files}
        try:
            for number in range(ROUNDS):
                name = f"f{number % len(files)}"
                fd, data = opened[name], files[name]
                for page in range(number % 5, 75, 7):
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    piece = os.pread(fd, 4 * KIB, page * 4 * KIB)
                    self.assertEqual(piece, data[page * 4 * KIB : (page + 1) * 4 * KIB])
                self.put(f"other{number}", content(("other", number), 200 * KIB))
                check(self.node.delete(f"other{number}").status in (200, 204), "delete")
        finally:
            for fd in opened.values():
                os.close(fd)
        one.stop()


if __name__ == "__main__":
    unittest.main()
