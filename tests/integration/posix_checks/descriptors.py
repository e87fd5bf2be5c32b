# SPDX-License-Identifier: Apache-2.0
"""Descriptors that are copied, inherited, closed; threads and processes that share files."""

import errno
import os
import threading

import harness
from posix_checks.checks import Checks, pattern


class Descriptors(Checks):
    def test_copies_share_the_offset(self):
        with self.open("f") as fd:
            copy = os.dup(fd)
            os.write(fd, b"one,")
            os.write(copy, b"two")
            os.close(copy)
            os.write(fd, b",three")
        self.assert_content("f", b"one,two,three")

    def test_writes_behind_the_close_of_a_copy_count(self):
        with self.open("f") as fd:
            os.write(fd, b"one,")
            os.close(os.dup(fd))
            self.assert_content("f", b"one,")
            os.write(fd, b"two")
        self.assert_content("f", b"one,two")

    def test_a_child_writes_on(self):
        with self.open("f") as fd:
            os.write(fd, b"parent,")
            pid = os.fork()
            if pid == 0:
                os.write(fd, b"child,")
                os._exit(0)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            os.write(fd, b"parent")
        self.assert_content("f", b"parent,child,parent")

    def test_a_close_shows_the_whole_file(self):
        for size in (0, 1, 100, 5000, 300000):
            with self.open(f"f{size}") as fd:
                os.write(fd, pattern(size))
            self.assertEqual(self.path(f"f{size}").stat().st_size, size)
            self.assert_content(f"f{size}", pattern(size))

    def test_open_twice_and_close_one(self):
        with self.open("f") as one:
            with self.open("f", os.O_RDWR) as two:
                os.write(two, b"two")
            os.pwrite(one, b"one", 3)
            self.assertEqual(os.pread(one, 10, 0), b"twoone")
        self.assert_content("f", b"twoone")

    def test_what_is_closed_cannot_be_used(self):
        fd = os.open(self.path("f"), os.O_RDWR | os.O_CREAT)
        os.close(fd)
        with self.fails(errno.EBADF):
            os.write(fd, b"x")

    def test_reads_go_on_when_the_file_is_written_anew(self):
        """A reader that began keeps going and sees one or the other content, never an error."""
        self.make("f", b"a" * 100000)
        with self.open("f", os.O_RDONLY) as fd:
            self.assertEqual(os.pread(fd, 10, 0), b"a" * 10)
            with self.open("f", os.O_WRONLY) as writer:
                os.write(writer, b"b" * 100000)
            data = os.pread(fd, 100000, 0)
            self.assertEqual(len(data), 100000)
            self.assertEqual(data.strip(data[:1]), b"")

    def test_a_program_that_is_killed_loses_no_closed_file(self):
        text = """
with open(sys.argv[1] + "/closed", "wb") as file:
    file.write(b"closed")
fd = os.open(sys.argv[1] + "/open", os.O_RDWR | os.O_CREAT, 0o644)
os.write(fd, b"open")
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), 9)
os.waitpid(pid, 0)
print("done")
"""
        self.assertEqual(self.in_process(text, self.dir), "done")
        self.assert_content("closed", b"closed")
        self.assert_content("open", b"open")


class Together(Checks):
    def work(self, count, function):
        """Runs function(number) in `count` threads; the first error is raised."""
        errors = []

        def one(number):
            try:
                function(number)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if errors:
            raise errors[0]

    def test_writers_of_ranges_of_one_file(self):
        piece = 100001
        with self.open("f") as fd:
            self.work(8, lambda n: os.pwrite(fd, pattern(piece, n * piece), n * piece))
        self.assert_content("f", pattern(8 * piece))

    def test_readers_of_one_file(self):
        data = pattern(2000003)
        self.make("f", data)

        def read(number):
            with self.open("f", os.O_RDONLY) as fd:
                for offset in range(number * 1000, len(data), 77777):
                    self.assertEqual(os.pread(fd, 5000, offset), data[offset : offset + 5000])

        self.work(8, read)

    def test_makers_of_files_in_one_directory(self):
        count = harness.scaled(50)

        def make(number):
            for each in range(count):
                self.make(f"{number}-{each}", b"%d %d" % (number, each))

        self.work(8, make)
        self.assertEqual(len(os.listdir(self.dir)), 8 * count)
        for number in range(8):
            self.assert_content(f"{number}-0", b"%d 0" % number)

    def test_makers_and_removers(self):
        def churn(number):
            for each in range(harness.scaled(30)):
                path = self.make(f"{number}-{each % 3}", b"x" * each)
                self.assertEqual(path.stat().st_size, each)
                os.rename(path, self.path(f"{number}-moved"))
                os.unlink(self.path(f"{number}-moved"))

        self.work(6, churn)
        self.assert_names([])

    def test_one_name_fought_for(self):
        """Whole files win; nobody meets an error but that it is gone."""
        def fight(number):
            for each in range(harness.scaled(30)):
                own = self.make(f"own-{number}", b"%d" % number * 1000)
                os.replace(own, self.path("prize"))
                data = self.path("prize").read_bytes()
                self.assertEqual((len(data), data.strip(data[:1])), (1000, b""))

        self.work(4, fight)
        self.assert_names(["prize"])

    def test_appenders_of_one_log(self):
        def append(number):
            with self.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
                for each in range(50):
                    os.write(fd, b"%d:%03d\n" % (number, each))

        self.work(4, append)
        lines = self.path("log").read_bytes().split(b"\n")[:-1]
        self.assertEqual(sorted(lines), [b"%d:%03d" % (n, each) for n in range(4) for each in range(50)])
