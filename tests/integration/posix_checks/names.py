# SPDX-License-Identifier: Apache-2.0
"""Names and paths."""

import errno
import os

from posix_checks.checks import Checks


class Names(Checks):
    def test_of_255_bytes(self):
        name = "n" * 255
        self.make(name, b"x")
        self.assert_content(name, b"x")
        self.assert_names([name])
        os.rename(self.path(name), self.path("m" * 255))
        os.unlink(self.path("m" * 255))

    def test_of_256_bytes_are_too_long(self):
        name = "n" * 256
        with self.fails(errno.ENAMETOOLONG):
            os.open(self.path(name), os.O_RDWR | os.O_CREAT)
        with self.fails(errno.ENAMETOOLONG):
            os.stat(self.path(name))
        with self.fails(errno.ENAMETOOLONG):
            os.mkdir(self.path(name))
        self.make("file")
        with self.fails(errno.ENAMETOOLONG):
            os.rename(self.path("file"), self.path(name))

    def test_of_85_characters_of_three_bytes(self):
        name = "\u20ac" * 85
        self.mkdir(name)
        self.make(f"{name}/{name}", b"x")
        self.assert_content(f"{name}/{name}", b"x")
        with self.fails(errno.ENAMETOOLONG):
            os.mkdir(self.path(name + "x"))

    def test_odd_but_allowed(self):
        odd = ["a b", "-rf", "*", "?", "[x]", "a\nb", "\t", "%2F", "%", "+", "#", "a?b=c&d", "~", "'", '"',
               "\\", "...", " ", ":", "CON", "x" * 100, "\x01", "\x7f", "\u00e4", "\u0430", "\U0001f600",
               "e\u0301", "\u00e9", ".hidden", "a;b", "$(x)", "|", "<>"]  # fmt: skip
        for name in odd:
            self.make(name, name.encode())
        self.assert_names(odd)
        for name in odd:
            self.assert_content(name, name.encode())
            os.unlink(self.path(name))
        self.assert_names([])

    def test_case_is_kept_and_counts(self):
        for name in ("file", "File", "FILE"):
            self.make(name, name.encode())
        self.assert_names(["file", "File", "FILE"])
        self.assert_content("File", b"File")

    def test_that_are_no_utf8(self):
        """A mount refuses them: names travel between machines as text."""
        name = os.fsencode(self.dir) + b"/\xff\xfe"
        if not self.is_artel:
            os.close(os.open(name, os.O_RDWR | os.O_CREAT))
            return
        for act in (lambda: os.open(name, os.O_RDWR | os.O_CREAT), lambda: os.mkdir(name),
                    lambda: os.symlink(b"x", name)):  # fmt: skip
            with self.fails(errno.EILSEQ, errno.EINVAL):
                act()
        self.make("file")
        with self.fails(errno.EILSEQ, errno.EINVAL):
            os.rename(os.fsencode(self.path("file")), name)
        self.assert_names(["file"])

    def test_dots(self):
        self.mkdir("d")
        self.make("file", b"x")
        self.assertEqual(os.stat(self.path("d/..")).st_ino, os.stat(self.dir).st_ino)
        self.assertEqual(os.stat(f"{self.dir}/d/../file").st_size, 1)
        with self.fails(errno.EEXIST):
            os.mkdir(f"{self.dir}/d/.")
        with self.fails(errno.EINVAL):
            os.rmdir(f"{self.dir}/d/.")
        with self.fails(errno.ENOTEMPTY, errno.EBUSY):
            os.rmdir(f"{self.dir}/d/..")

    def test_slashes_in_a_row(self):
        self.mkdir("d")
        self.make("d/file", b"x")
        self.assertEqual(os.stat(f"{self.dir}//d///file").st_size, 1)

    def test_deep_directories(self):
        path = self.dir
        for number in range(60):
            path = path / f"level-{number:02}"
            path.mkdir()
        (path / "file").write_bytes(b"deep")
        self.assertEqual((path / "file").read_bytes(), b"deep")

    def test_a_path_of_nearly_4096_bytes(self):
        """What a system call takes at most works in a mount too: its own limit is not below."""
        fd = os.open(self.dir, os.O_RDONLY)
        length, depth = len(os.fsencode(self.dir)), 0
        while length + 201 < 4090:
            os.mkdir("d" * 200, dir_fd=fd)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd, length, depth = below, length + 201, depth + 1
        os.close(fd)
        path = os.path.join(self.dir, *["d" * 200] * depth, "f" * (4094 - length))
        self.assertEqual(len(path), 4095)
        with open(path, "wb") as file:
            file.write(b"far")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"far")
        with self.fails(errno.ENAMETOOLONG):
            os.stat(path + "x")

    def test_a_path_beyond_4096_bytes(self):
        """A mount refuses what no path of the tree can be; other file systems go on below descriptors."""
        fd = os.open(self.dir, os.O_RDONLY)
        try:
            for _ in range(22):
                os.mkdir("d" * 200, dir_fd=fd)
                below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError as error:
            self.assertTrue(self.is_artel)
            self.assertEqual(error.errno, errno.ENAMETOOLONG)
        else:
            self.assertFalse(self.is_artel)
        finally:
            os.close(fd)

    def test_nul_and_empty(self):
        with self.fails(errno.ENOENT):
            os.stat("")
        self.assertRaises(ValueError, os.stat, f"{self.dir}/a\0b")

    def test_the_same_name_again_and_again(self):
        for number in range(50):
            self.make("again", b"%d" % number)
            os.unlink(self.path("again"))
            self.assertFalse(self.path("again").exists())
            self.mkdir("again")
            self.path("again").rmdir()
        self.assert_names([])
