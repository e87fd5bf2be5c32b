# SPDX-License-Identifier: Apache-2.0
"""Bytes of files: reads, writes, holes, lengths, mappings."""

import errno
import mmap
import os
import random
import shutil

import harness
from harness import KIB, MIB
from posix_checks.checks import Checks, pattern


class Content(Checks):
    def test_read_at_the_end_and_behind(self):
        self.make("file", b"abc")
        with self.open("file", os.O_RDONLY) as fd:
            self.assertEqual(os.pread(fd, 10, 2), b"c")
            self.assertEqual(os.pread(fd, 10, 3), b"")
            self.assertEqual(os.pread(fd, 10, 1 << 40), b"")

    def test_reads_at_odd_places(self):
        data = pattern(3 * MIB + 17)
        self.make("file", data)
        with self.open("file", os.O_RDONLY) as fd:
            for offset in (0, 1, 4095, 4096, 4097, 256 * KIB - 1, 256 * KIB, MIB - 3, 3 * MIB + 16):
                for size in (1, 7, 4096, 70001):
                    self.assertEqual(os.pread(fd, size, offset), data[offset : offset + size])

    def test_writes_at_odd_places(self):
        data = bytearray(pattern(MIB + 11))
        self.make("file", data)
        choose = random.Random(1)
        with self.open("file", os.O_RDWR) as fd:
            for number in range(200):
                offset, size = choose.randrange(len(data)), choose.choice((1, 3, 511, 4096, 33333))
                piece = bytes([number]) * min(size, len(data) - offset)
                self.assertEqual(os.pwrite(fd, piece, offset), len(piece))
                data[offset : offset + len(piece)] = piece
                if number % 20 == 0:
                    self.assertEqual(os.pread(fd, len(data) + 1, 0), data)
        self.assert_content("file", bytes(data))

    def test_writes_of_many_sizes_in_order(self):
        choose = random.Random(2)
        data = b""
        with self.open("file", os.O_WRONLY | os.O_CREAT) as fd:
            for _ in range(300):
                piece = pattern(choose.choice((1, 2, 100, 4095, 4096, 4097, 20000)), len(data))
                os.write(fd, piece)
                data += piece
        self.assert_content("file", data)

    def test_a_write_of_nothing(self):
        with self.open("file") as fd:
            self.assertEqual(os.write(fd, b""), 0)
        self.assert_content("file", b"")

    def test_a_write_in_one_piece_of_many_megabytes(self):
        data = pattern(9 * MIB + 5)
        with self.open("file") as fd:
            written = 0
            while written < len(data):
                written += os.write(fd, data[written:])
        self.assert_content("file", data)

    def test_vectors(self):
        with self.open("file") as fd:
            self.assertEqual(os.writev(fd, [b"ab", b"", b"cde"]), 5)
            one, two = bytearray(3), bytearray(9)
            self.assertEqual(os.preadv(fd, [one, two], 0), 5)
            self.assertEqual((bytes(one), bytes(two[:2])), (b"abc", b"de"))

    def test_a_hole_reads_as_zeros(self):
        with self.open("file") as fd:
            os.pwrite(fd, b"x", 3 * MIB)
            self.assertEqual(os.fstat(fd).st_size, 3 * MIB + 1)
            self.assertEqual(os.pread(fd, 100, MIB), bytes(100))
        self.assert_content("file", bytes(3 * MIB) + b"x")

    def test_a_hole_behind_content(self):
        self.make("file", b"head")
        with self.open("file", os.O_RDWR) as fd:
            os.pwrite(fd, b"tail", 100000)
        self.assert_content("file", b"head" + bytes(100000 - 4) + b"tail")

    def test_overwrite_inside_keeps_the_rest(self):
        data = bytearray(pattern(700 * KIB))
        self.make("file", data)
        with self.open("file", os.O_RDWR) as fd:
            os.pwrite(fd, b"INSIDE", 300 * KIB)
        data[300 * KIB : 300 * KIB + 6] = b"INSIDE"
        self.assert_content("file", bytes(data))

    def test_rewrite_without_truncate_keeps_the_tail(self):
        self.make("file", b"0123456789")
        with self.open("file", os.O_WRONLY) as fd:
            os.write(fd, b"abc")
        self.assert_content("file", b"abc3456789")

    def test_a_writer_reads_its_own_writes(self):
        with self.open("file") as fd:
            for number in range(30):
                os.pwrite(fd, pattern(1000, number * 1000), number * 1000)
                self.assertEqual(os.pread(fd, 5000, 0), pattern(min(5000, 1000 * (number + 1))))

    def test_a_reader_beside_sees_the_writes(self):
        """On one machine, other descriptors of a file see what was written before close."""
        self.make("file", b"old old old")
        with self.open("file", os.O_RDWR) as writer, self.open("file", os.O_RDONLY) as reader:
            self.assertEqual(os.pread(reader, 20, 0), b"old old old")
            os.pwrite(writer, b"new", 4)
            self.assertEqual(os.pread(reader, 20, 0), b"old new old")
            os.pwrite(writer, b"!", 11)
            self.assertEqual(os.pread(reader, 20, 0), b"old new old!")

    def test_two_writers_of_one_file(self):
        with self.open("file") as one, self.open("file", os.O_RDWR) as two:
            os.pwrite(one, b"11111", 0)
            os.pwrite(two, b"22222", 5)
            os.pwrite(one, b"333", 10)
        self.assert_content("file", b"1111122222333")

    def test_many_versions_of_one_file(self):
        for number in range(40):
            self.make("file", b"version %d" % number + b"." * number)
            self.assert_content("file", b"version %d" % number + b"." * number)

    def test_fsync_and_fdatasync(self):
        with self.open("file") as fd:
            os.write(fd, b"a")
            os.fsync(fd)
            self.assert_content("file", b"a")
            os.write(fd, b"b")
            os.fdatasync(fd)
            os.write(fd, b"c")
        self.assert_content("file", b"abc")

    def test_fsync_of_a_directory(self):
        self.mkdir("d")
        with self.open("d", os.O_RDONLY) as fd:
            os.fsync(fd)

    def test_fsync_of_a_reader(self):
        self.make("file", b"a")
        with self.open("file", os.O_RDONLY) as fd:
            os.fsync(fd)

    def test_seek_from_all_sides(self):
        self.make("file", b"0123456789")
        with self.open("file", os.O_RDWR) as fd:
            self.assertEqual(os.lseek(fd, -2, os.SEEK_END), 8)
            self.assertEqual(os.read(fd, 1), b"8")
            self.assertEqual(os.lseek(fd, -4, os.SEEK_CUR), 5)
            with self.fails(errno.EINVAL):
                os.lseek(fd, -1, os.SEEK_SET)
            self.assertEqual(os.lseek(fd, 100, os.SEEK_SET), 100)
            self.assertEqual(os.read(fd, 1), b"")
            self.assertEqual(os.fstat(fd).st_size, 10)

    def test_seek_to_data_and_holes(self):
        """All of a file may count as data."""
        with self.open("file") as fd:
            os.pwrite(fd, b"x" * 4096, 0)
            os.pwrite(fd, b"x" * 4096, MIB)
            self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 0)
            self.assertIn(os.lseek(fd, 0, os.SEEK_HOLE), (*range(4096, MIB + 1), MIB + 4096))
            self.assertLessEqual(os.lseek(fd, 4096, os.SEEK_DATA), MIB)
            self.assertEqual(os.lseek(fd, MIB, os.SEEK_HOLE), MIB + 4096)
            with self.fails(errno.ENXIO):
                os.lseek(fd, MIB + 4096, os.SEEK_DATA)

    def test_allocate(self):
        """Makes a file longer; a file system may say that it can't."""
        with self.open("file") as fd:
            try:
                os.posix_fallocate(fd, 0, 10000)
            except OSError as error:
                self.assertEqual(error.errno, errno.EOPNOTSUPP)
                return
            self.assertEqual(os.fstat(fd).st_size, 10000)
        self.assert_content("file", bytes(10000))

    def test_copy_inside_the_file_system(self):
        data = pattern(600 * KIB + 3)
        self.make("from", data)
        with self.open("from", os.O_RDONLY) as source, self.open("to") as target:
            copied = 0
            while count := os.copy_file_range(source, target, MIB):
                copied += count
            self.assertEqual(copied, len(data))
        self.assert_content("to", data)

    def test_sendfile(self):
        data = pattern(300 * KIB + 1)
        self.make("from", data)
        with self.open("from", os.O_RDONLY) as source, self.open("to") as target:
            sent = 0
            while count := os.sendfile(target, source, sent, MIB):
                sent += count
        self.assert_content("to", data)

    def test_random_work_against_a_model(self):
        """Writes, reads, truncations, reopens in random order; a bytearray knows what must come."""
        choose = random.Random(harness.SEED)
        model = bytearray()
        fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
        for step in range(harness.scaled(400)):
            what = choose.choice(("write", "write", "write", "read", "read", "cut", "reopen", "sync"))
            offset = choose.randrange(600 * KIB)
            if what == "write":
                piece = choose.randbytes(choose.choice((1, 100, 4096, 50000)))
                os.pwrite(fd, piece, offset)
                model.extend(bytes(max(0, offset + len(piece) - len(model))))
                model[offset : offset + len(piece)] = piece
            elif what == "cut":
                os.ftruncate(fd, offset)
                model = model[:offset] + bytes(max(0, offset - len(model)))
            elif what == "reopen":
                os.close(fd)
                fd = os.open(self.path("file"), os.O_RDWR)
            elif what == "sync" and choose.random() < 0.2:
                os.fsync(fd)
            got = os.pread(fd, 70000, offset)
            if got != model[offset : offset + 70000] or os.fstat(fd).st_size != len(model):
                self.fail(f"seed {harness.SEED}, step {step}, {what} at {offset}")
        os.close(fd)
        self.assert_content("file", bytes(model))


class Lengths(Checks):
    def test_shorter(self):
        self.make("file", b"0123456789")
        os.truncate(self.path("file"), 4)
        self.assert_content("file", b"0123")

    def test_longer(self):
        self.make("file", b"0123")
        os.truncate(self.path("file"), 5000)
        self.assert_content("file", b"0123" + bytes(4996))

    def test_shorter_then_longer_shows_zeros(self):
        self.make("file", pattern(10000))
        with self.open("file", os.O_RDWR) as fd:
            os.ftruncate(fd, 100)
            os.ftruncate(fd, 10000)
            self.assertEqual(os.pread(fd, 20000, 0), pattern(100) + bytes(9900))
        self.assert_content("file", pattern(100) + bytes(9900))

    def test_to_nothing(self):
        self.make("file", pattern(MIB))
        os.truncate(self.path("file"), 0)
        self.assert_content("file", b"")

    def test_to_the_same(self):
        self.make("file", b"same")
        os.truncate(self.path("file"), 4)
        self.assert_content("file", b"same")

    def test_by_descriptor_and_by_name(self):
        self.make("file", pattern(100000))
        with self.open("file", os.O_RDWR) as fd:
            os.pwrite(fd, b"x", 150000)
            os.truncate(self.path("file"), 120000)
            self.assertEqual(os.fstat(fd).st_size, 120000)
            os.ftruncate(fd, 110000)
        self.assert_content("file", pattern(100000) + bytes(10000))

    def test_of_a_directory_is_eisdir(self):
        self.mkdir("d")
        with self.fails(errno.EISDIR):
            os.truncate(self.path("d"), 0)

    def test_negative_is_einval(self):
        self.make("file")
        with self.fails(errno.EINVAL):
            os.truncate(self.path("file"), -1)

    def test_beyond_what_a_file_can_be(self):
        self.make("file", b"x")
        if self.is_artel:
            with self.fails(errno.EFBIG):
                os.truncate(self.path("file"), (1 << 40) + 1)
            with self.open("file", os.O_RDWR) as fd, self.fails(errno.EFBIG):
                os.pwrite(fd, b"x", 1 << 40)
        self.assert_content("file", b"x")

    def test_a_large_hole(self):
        with self.open("file") as fd:
            os.ftruncate(fd, 64 * MIB)
            os.pwrite(fd, b"end", 64 * MIB - 3)
        self.assertEqual(self.path("file").stat().st_size, 64 * MIB)
        with self.open("file", os.O_RDONLY) as fd:
            self.assertEqual(os.pread(fd, 10, 64 * MIB - 5), b"\0\0end")
            self.assertEqual(os.pread(fd, 10, 32 * MIB), bytes(10))

    def test_size_is_told_while_writing(self):
        with self.open("file") as fd:
            for number in range(1, 5):
                os.write(fd, b"x" * 1000)
                self.assertEqual(os.fstat(fd).st_size, 1000 * number)
                self.assertEqual(self.path("file").stat().st_size, 1000 * number)

    def test_blocks_fit_the_size(self):
        self.make("file", pattern(100000))
        self.assertGreaterEqual(self.path("file").stat().st_blocks * 512, 100000)
        self.assertGreater(self.path("file").stat().st_blksize, 0)


class Mappings(Checks):
    def test_read_shared(self):
        data = pattern(300 * KIB)
        self.make("file", data)
        with self.open("file", os.O_RDONLY) as fd:
            with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                self.assertEqual(view[:], data)

    def test_read_private(self):
        data = pattern(300 * KIB + 7)
        self.make("file", data)
        with self.open("file", os.O_RDONLY) as fd:
            with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
                self.assertEqual(view[:], data)

    def test_write_private_stays_private(self):
        self.make("file", pattern(10000))
        with self.open("file", os.O_RDONLY) as fd:
            with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
                view[0:5] = b"mine!"
                self.assertEqual(view[0:5], b"mine!")
        self.assert_content("file", pattern(10000))

    def test_write_shared(self):
        data = bytearray(pattern(50000))
        self.make("file", data)
        with self.open("file", os.O_RDWR) as fd:
            with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as view:
                view[20000:20006] = b"mapped"
                view.flush()
                self.assertEqual(os.pread(fd, 6, 20000), b"mapped")
        data[20000:20006] = b"mapped"
        self.assert_content("file", bytes(data))

    def test_write_shared_after_close(self):
        """The mapping outlives the descriptor; its writes are in the file once it is gone."""
        data = bytearray(pattern(50000))
        self.make("file", data)
        with self.open("file", os.O_RDWR) as fd:
            view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        view[100:105] = b"later"
        view.flush()
        view.close()
        data[100:105] = b"later"
        self.assert_content("file", bytes(data))

    def test_a_mapping_sees_writes(self):
        self.make("file", bytes(8192))
        with self.open("file", os.O_RDWR) as fd:
            with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                self.assertEqual(view[4096], 0)
                os.pwrite(fd, b"\x55", 4096)
                self.assertEqual(view[4096], 0x55)

    def test_a_program_runs(self):
        path = self.path("true")
        shutil.copyfile("/bin/true", path)
        path.chmod(0o755)
        self.assertEqual(os.spawnv(os.P_WAIT, path, ["true"]), 0)


class Files(Checks):
    """Whole files, through what programs use."""

    def test_a_file_of_each_interesting_size(self):
        sizes = (0, 1, 4095, 4096, 4097, 65535, 65536, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1,
                 MIB, 5 * MIB + 1)
        for size in sizes:
            self.make(f"of-{size}", pattern(size))
        for size in sizes:
            self.assertEqual(self.path(f"of-{size}").stat().st_size, size)
            self.assert_content(f"of-{size}", pattern(size))

    def test_save_by_rename(self):
        self.make("document", b"first")
        for number in range(10):
            self.make("document.new", b"save %d" % number)
            os.replace(self.path("document.new"), self.path("document"))
            self.assert_content("document", b"save %d" % number)
        self.assert_names(["document"])

    def test_a_log_that_grows(self):
        for number in range(50):
            with open(self.path("log"), "ab") as log:
                log.write(b"line %d\n" % number)
        self.assert_content("log", b"".join(b"line %d\n" % number for number in range(50)))

    def test_a_reader_keeps_the_file_that_it_opened(self):
        self.make("file", b"old" * 1000)
        with self.open("file", os.O_RDONLY) as fd:
            self.make("new", b"new" * 500)
            os.replace(self.path("new"), self.path("file"))
            self.assertEqual(os.pread(fd, 5000, 0), b"old" * 1000)
        self.assert_content("file", b"new" * 500)

    def test_readers_beside_a_writer_see_whole_saves(self):
        """With a save by rename no reader ever sees part of a version."""
        text = """
for number in range(int(sys.argv[2])):
    data = bytes([number % 256]) * (1000 + number)
    with open(sys.argv[1] + ".new", "wb") as file:
        file.write(data)
    os.replace(sys.argv[1] + ".new", sys.argv[1])
"""
        import threading

        self.make("file", bytes(1000))
        done = threading.Event()
        torn = []

        def read():
            while not done.is_set():
                data = self.path("file").read_bytes()
                if not data or data.strip(data[:1]) or len(data) != 1000 + data[0]:
                    torn.append(data[:10])

        readers = [threading.Thread(target=read) for _ in range(3)]
        for each in readers:
            each.start()
        try:
            self.in_process(text, self.path("file"), 100)
        finally:
            done.set()
            for each in readers:
                each.join()
        self.assertEqual(torn, [])
