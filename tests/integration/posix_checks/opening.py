# SPDX-License-Identifier: Apache-2.0
"""open(2) and its flags."""

import errno
import os

from posix_checks.checks import Checks


class Opening(Checks):
    def test_what_is_not_there_is_enoent(self):
        with self.fails(errno.ENOENT):
            os.open(self.path("no"), os.O_RDONLY)

    def test_a_parent_that_is_not_there_is_enoent(self):
        with self.fails(errno.ENOENT):
            os.open(self.path("no/file"), os.O_RDWR | os.O_CREAT)

    def test_a_parent_that_is_a_file_is_enotdir(self):
        self.make("file")
        with self.fails(errno.ENOTDIR):
            os.open(self.path("file/below"), os.O_RDWR | os.O_CREAT)

    def test_a_slash_behind_a_file_is_enotdir(self):
        self.make("file")
        with self.fails(errno.ENOTDIR):
            os.open(f"{self.path('file')}/", os.O_RDONLY)

    def test_create_makes_an_empty_file(self):
        with self.open("new") as fd:
            self.assertEqual(os.fstat(fd).st_size, 0)
            self.assert_names(["new"])
        self.assert_content("new", b"")

    def test_create_of_what_is_there_keeps_it(self):
        self.make("file", b"content")
        with self.open("file", os.O_RDWR | os.O_CREAT) as fd:
            self.assertEqual(os.read(fd, 100), b"content")

    def test_exclusive_create_happens_once(self):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with self.open("file", flags) as fd:
            with self.fails(errno.EEXIST):
                os.open(self.path("file"), flags)
            os.write(fd, b"mine")
        with self.fails(errno.EEXIST):
            os.open(self.path("file"), flags)
        self.assert_content("file", b"mine")

    def test_exclusive_create_sees_a_directory(self):
        self.mkdir("d")
        with self.fails(errno.EEXIST):
            os.open(self.path("d"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def test_exclusive_create_sees_a_dangling_link(self):
        os.symlink("nowhere", self.path("link"))
        with self.fails(errno.EEXIST):
            os.open(self.path("link"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def test_create_through_a_dangling_link_makes_its_target(self):
        os.symlink("target", self.path("link"))
        with self.open("link", os.O_WRONLY | os.O_CREAT) as fd:
            os.write(fd, b"x")
        self.assert_content("target", b"x")
        self.assertTrue(self.path("link").is_symlink())

    def test_exclusive_create_by_many_has_one_winner(self):
        text = """
try:
    os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    print("won")
except FileExistsError:
    print("lost")
"""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            each = list(pool.map(lambda _: self.in_process(text, self.path("f")), range(4)))
        self.assertEqual(sorted(each), ["lost", "lost", "lost", "won"])

    def test_truncate_empties(self):
        self.make("file", b"content")
        with self.open("file", os.O_WRONLY | os.O_TRUNC) as fd:
            self.assertEqual(os.fstat(fd).st_size, 0)
        self.assert_content("file", b"")

    def test_truncate_and_write(self):
        self.make("file", b"long content")
        with self.open("file", os.O_WRONLY | os.O_TRUNC) as fd:
            os.write(fd, b"short")
        self.assert_content("file", b"short")

    def test_append_ignores_the_offset(self):
        self.make("file", b"head,")
        with self.open("file", os.O_WRONLY | os.O_APPEND) as fd:
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, b"tail")
        self.assert_content("file", b"head,tail")

    def test_append_through_two_descriptors(self):
        with self.open("file", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as one:
            with self.open("file", os.O_WRONLY | os.O_APPEND) as two:
                for number in range(50):
                    os.write(one if number % 2 else two, b"%03d," % number)
        self.assert_content("file", b"".join(b"%03d," % number for number in range(50)))

    def test_a_reader_cannot_write(self):
        self.make("file", b"x")
        with self.open("file", os.O_RDONLY) as fd:
            with self.fails(errno.EBADF):
                os.write(fd, b"y")
            with self.fails(errno.EINVAL, errno.EBADF):
                os.ftruncate(fd, 0)

    def test_a_writer_cannot_read(self):
        self.make("file", b"x")
        with self.open("file", os.O_WRONLY) as fd:
            with self.fails(errno.EBADF):
                os.read(fd, 1)

    def test_a_directory_opens_for_reading_only(self):
        self.mkdir("d")
        with self.fails(errno.EISDIR):
            os.open(self.path("d"), os.O_RDWR)
        with self.open("d", os.O_RDONLY) as fd:
            with self.fails(errno.EISDIR):
                os.read(fd, 1)

    def test_create_of_a_directory_is_eisdir(self):
        self.mkdir("d")
        with self.fails(errno.EISDIR):
            os.open(self.path("d"), os.O_WRONLY | os.O_CREAT)

    def test_o_directory(self):
        self.make("file")
        self.mkdir("d")
        with self.fails(errno.ENOTDIR):
            os.open(self.path("file"), os.O_RDONLY | os.O_DIRECTORY)
        with self.open("d", os.O_RDONLY | os.O_DIRECTORY):
            pass

    def test_o_nofollow(self):
        self.make("file", b"x")
        os.symlink("file", self.path("link"))
        with self.fails(errno.ELOOP):
            os.open(self.path("link"), os.O_RDONLY | os.O_NOFOLLOW)
        with self.open("file", os.O_RDONLY | os.O_NOFOLLOW) as fd:
            self.assertEqual(os.read(fd, 2), b"x")

    def test_o_path(self):
        self.make("file", b"xyz")
        with self.open("file", os.O_PATH) as fd:
            self.assertEqual(os.fstat(fd).st_size, 3)
            with self.fails(errno.EBADF):
                os.read(fd, 1)

    def test_below_a_directory_descriptor(self):
        self.mkdir("d")
        with self.open("d", os.O_RDONLY) as directory:
            fd = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)
            os.write(fd, b"x")
            os.close(fd)
            self.assertEqual(os.stat("file", dir_fd=directory).st_size, 1)
            os.rename("file", "other", src_dir_fd=directory, dst_dir_fd=directory)
            os.unlink("other", dir_fd=directory)
        self.assert_names([], "d")

    def test_o_tmpfile(self):
        """A file without a name; a file system may say that it has none."""
        try:
            fd = os.open(self.dir, os.O_RDWR | os.O_TMPFILE, 0o600)
        except OSError as error:
            self.assertIn(error.errno, (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT))
            return
        os.write(fd, b"x")
        self.assert_names([])
        os.close(fd)

    def test_direct_reads_the_same_bytes(self):
        data = bytes(range(256)) * 64
        self.make("file", data)
        try:
            fd = os.open(self.path("file"), os.O_RDONLY | os.O_DIRECT)
        except OSError as error:
            self.assertEqual(error.errno, errno.EINVAL)
            return
        import mmap

        page = mmap.mmap(-1, 4096)  # aligned
        self.assertEqual(os.preadv(fd, [page], 4096), 4096)
        self.assertEqual(page[:], data[4096:8192])
        os.close(fd)

    def test_many_open_files(self):
        paths = [self.make(f"f{number}", b"%d" % number) for number in range(200)]
        fds = [os.open(path, os.O_RDONLY) for path in paths]
        for number, fd in enumerate(fds):
            self.assertEqual(os.read(fd, 10), b"%d" % number)
            os.close(fd)
