# SPDX-License-Identifier: Apache-2.0
"""A disk that is full: puts fail and say so, nothing is lost, reads go on, and once there is space
puts work again.

Each test runs on a small ext4 in a loop device and on a small tmpfs. Both need root.
"""

import io
import select
import tarfile

from harness import *

from node import Node, read_until_quiet

DISK_MIB = 64
# What puts leave free for the index (STORE_RESERVE_BYTES_DEFAULT).
RESERVE_BYTES = 16 * MIB
FULL = "no space left on the disk"
PAGE = 4096


def command(*arguments):
    result = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        line = " ".join(map(str, arguments))
        raise unittest.SkipTest(f"can't do `{line}`: {result.stderr.strip()}")


class Ballast:
    """A file of somebody else that takes the space."""

    def __init__(self, disk):
        self.path = disk / "ballast"
        self.file = self.path.open("wb", buffering=0)

    def fill(self, leave_bytes=0):
        """Takes all there is, then gives `leave_bytes` back."""
        piece = bytes(MIB)
        while piece:
            try:
                written = self.file.write(piece)
                piece = piece if written == len(piece) else piece[: len(piece) // 2]
            except OSError as error:
                check(error.errno == errno.ENOSPC, "filling", error)
                piece = piece[: len(piece) // 2]
        os.fsync(self.file.fileno())
        size = self.file.tell() // PAGE * PAGE
        self.shrink(max(0, size - leave_bytes))

    def leave(self, leave_bytes):
        """Takes so much that about `leave_bytes` stay free."""
        space = os.statvfs(self.path)
        take_bytes = space.f_bavail * space.f_frsize - leave_bytes
        check(take_bytes > 0, "less is free than there should be")
        os.posix_fallocate(self.file.fileno(), os.fstat(self.file.fileno()).st_size, take_bytes)

    def shrink(self, size):
        self.file.truncate(size)
        self.file.seek(size)
        os.fsync(self.file.fileno())

    def drop(self):
        self.shrink(0)

    def close(self):
        self.file.close()


class DiskFull:
    """The tests; those that inherit say what disk."""

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("only root can mount")
        manager = temp_dir()
        self.dir = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        self.disk = self.dir / "disk"
        self.disk.mkdir()
        self.mount()
        self.addCleanup(subprocess.run, ["umount", str(self.disk)], check=True)
        self.ballast = Ballast(self.disk)
        self.addCleanup(self.ballast.close)
        self.store = Store(self.disk / "data")
        self.source = self.dir / "source"
        self.source.mkdir()
        self.contents = {}  # of all ids that may be listed
        self.held = set()  # those acknowledged

    # -- what is done, and what is known afterwards

    def write(self, name, size):
        data = content((self.id(), name), size)
        path = self.source / name
        path.write_bytes(data)
        self.contents[file_id(data)] = data
        return path

    def put(self, *paths):
        """Puts, and notes what was acknowledged. Fails only for want of space."""
        result = self.store.put(*paths)
        self.acknowledge(result)
        return result

    def acknowledge(self, result):
        new = acknowledged(result)
        check(new <= set(self.contents), "acknowledges what nobody put", result)
        self.held |= new
        if result.status:
            self.assertFull(result)

    def assertFull(self, result):
        self.assertEqual(result.status, 1, str(result))
        # What the store logs besides is for whoever runs it.
        lines = [each for each in result.err.splitlines() if not each.startswith("time=")]
        self.assertTrue(lines, "fails without a word")
        for line in lines:
            self.assertIn(FULL, line, str(result))

    def fill_up(self, size, count):
        """Puts `count` files, which is more than fits."""
        paths = [self.write(f"fill-{size}-{i}", size) for i in range(count)]
        result = self.put(self.source)
        self.assertFull(result)
        # Each is either acknowledged or named.
        for path in paths:
            printed = f"  {path}\n" in result.out.decode()
            named = f"{path}: {FULL}" in result.err
            self.assertNotEqual(printed, named, path)
        self.assertGreater(len(self.held), 10)
        for path in paths:
            path.unlink()

    def verify(self, scrub=True):
        kept = self.store.verify(self.contents, must=self.held, scrub=scrub)
        # What was named as failed is not here as if it had been put.
        self.assertEqual(kept, self.held)

    def rm(self, ids):
        result = self.store.rm(*ids)
        self.assertEqual(result.status, 0, str(result))
        self.held -= set(ids)

    def free_bytes(self):
        space = os.statvfs(self.disk)
        return space.f_bavail * space.f_frsize

    # -- the tests

    def test_put_until_full_and_after(self):
        self.fill_up(MIB, DISK_MIB)
        self.assertLess(self.free_bytes(), RESERVE_BYTES + 2 * MIB)
        self.verify(scrub=False)
        self.assertFull(self.put(self.write("one-more", 3 * MIB)))
        # Removing works on the full disk, and gives the space back.
        before = self.free_bytes()
        self.rm(sorted(self.held)[:20])
        self.assertGreater(self.free_bytes(), before + 19 * MIB)
        for i in range(15):
            result = self.put(self.write(f"again-{i}", MIB))
            self.assertEqual(result.status, 0, str(result))
        self.verify()
        self.rm(sorted(self.held))
        self.verify()
        self.assertEqual(self.put(self.write("last", 30 * MIB)).status, 0)
        self.verify()

    def test_small_files_until_full(self):
        self.ballast.leave(RESERVE_BYTES + 8 * MIB)
        self.fill_up(20 * KIB, 1000)
        self.verify()
        self.rm(sorted(self.held)[::2])
        self.assertEqual(self.put(self.write("small", 10 * KIB)).status, 0)
        self.verify()

    def test_a_file_larger_than_the_disk(self):
        self.assertEqual(self.put(self.write("before", MIB)).status, 0)
        before = self.free_bytes()
        large = self.write("large", (DISK_MIB + 10) * MIB)
        result = self.put(large)
        self.assertFull(result)
        self.assertIn(f"{large}: ", result.err)
        with large.open("rb") as file:
            result = finish(start("store", "put", "--data", self.store.path, "-", stdin=file))
        self.assertFull(result)
        # What had been written of it is given back.
        self.verify()
        self.assertGreater(self.free_bytes(), before - 2 * MIB)
        self.assertEqual(self.put(self.write("after", 20 * MIB)).status, 0)
        self.verify()

    def test_reads_go_on_while_it_is_full(self):
        path = self.write("read", 3 * MIB + 5)
        self.assertEqual(self.put(path).status, 0)
        path.unlink()
        known = self.held.copy()
        done = threading.Event()

        def read():
            count = 0
            while not done.is_set() or count == 0:
                for each in known:
                    result = self.store.get(each)
                    check(result.status == 0, "a reader fails", result)
                    check(result.out == self.contents[each], "a wrong byte")
                    count += 1
            return count

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                self.fill_up(MIB, DISK_MIB)
                self.ballast.fill()
                self.assertFull(self.store.put("-", data=b"x"))
            finally:
                done.set()
            self.assertGreater(sum(each.result() for each in readers), 2)
        self.verify(scrub=False)

    def test_filled_by_others(self):
        self.assertEqual(self.put(self.write("known", 2 * MIB), self.write("tiny", 10)).status, 0)
        for leave_bytes in (0, PAGE, 20 * KIB, MIB, 12 * MIB):
            with self.subTest(leave_bytes=leave_bytes):
                self.ballast.fill(leave_bytes)
                self.assertFull(self.put(self.write("more", MIB)))
                self.assertFull(self.store.put("-", data=b"x"))
                self.verify(scrub=False)
                self.assertEqual(self.store.run("status").status, 0)
                # A removal needs a few pages of the index; without them it says so.
                result = self.store.rm(*self.held)
                if result.status:
                    self.assertFull(result)
                    self.assertLess(leave_bytes, MIB, "removal must work within the reserve")
                    self.ballast.drop()
                    listed = self.store.listed()
                    kept = {each for each in listed if listed[each][2] == "origin"}
                    self.assertLessEqual(kept, self.held)
                    for each in kept:
                        self.assertEqual(self.store.get(each).out, self.contents[each])
                else:
                    self.ballast.drop()
                    self.assertEqual(self.store.listed(), {})
                self.held = set()
                for name in ("known", "tiny"):
                    self.assertEqual(self.put(self.source / name).status, 0)
                self.verify()

    def test_full_at_the_commit_of_the_index(self):
        """All bytes are written, and then there is no room to name them: for each number of free
        pages from none to enough. LMDB gives up half-way through its pages then."""
        self.assertEqual(self.put(self.write("known", MIB)).status, 0)
        outcomes = []
        for pages in range(40):
            block = content((self.id(), pages), BLOCK_BYTES)
            self.contents[file_id(block)] = block
            process = start("store", "put", "--data", self.store.path, "-", stdin=subprocess.PIPE)
            self.addCleanup(discard, process)
            self.wait_for_owner(process)
            process.stdin.write(block)
            process.stdin.flush()
            self.wait_for_bytes(block)
            self.ballast.fill(pages * PAGE)
            result = finish(process)
            self.ballast.drop()
            self.acknowledge(result)
            outcomes.append(result.status)
            self.verify(scrub=False)
            if outcomes[-3:] == [0, 0, 0]:
                break
        # Both must have been seen, or this tests nothing.
        self.assertEqual(outcomes[0], 1, outcomes)
        self.assertEqual(outcomes[-1], 0, outcomes)
        self.verify()

    def wait_for_owner(self, process):
        lock = self.store.path / "lock"
        wait_for(lambda: lock.read_text() == f"{process.pid}\n", 10, "lock is held")

    def wait_for_bytes(self, block):
        segments = self.store.path / "segments"
        wait_for(
            lambda: any(block in each.read_bytes() for each in segments.iterdir()),
            10,
            "the bytes of the block are in a segment",
        )

    def test_full_at_any_moment(self):
        """Others take the space and give it back while puts and removals run."""
        # There is a store, however few of the puts below succeed.
        self.assertEqual(self.put(self.write("before", 100)).status, 0)
        done = threading.Event()
        rng = random.Random(f"{SEED} {self.id()}")

        def others():
            numbers = random.Random(f"{SEED} others {self.id()}")
            while not done.is_set():
                self.ballast.fill(numbers.choice([0, PAGE, 64 * KIB, MIB]))
                time.sleep(numbers.random() * 0.005)
                self.ballast.drop()
                time.sleep(numbers.random() * 0.02)

        full = 0
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            filler = pool.submit(others)
            try:
                for i in range(scaled(40)):
                    sizes = rng.choices([100, 10 * KIB, BLOCK_BYTES, MIB], k=rng.randrange(1, 6))
                    paths = [self.write(f"{i}-{j}", size) for j, size in enumerate(sizes)]
                    full += self.put(*paths).status
                    if len(self.held) > 40:
                        chosen = sorted(self.held)[:20]
                        result = self.store.rm(*chosen)
                        if result.status:
                            self.assertFull(result)
                        listed = self.store.listed()
                        kept = {each for each in listed if listed[each][2] == "origin"}
                        gone = set(chosen) - kept
                        check(result.status or len(gone) == 20, "not all removed", result)
                        self.held -= gone
            finally:
                done.set()
            filler.result()
        self.ballast.drop()
        print(f"{self.id().split('.', 1)[1]}: {full} puts met a full disk", flush=True)
        self.verify()

    def test_a_new_store_on_a_full_disk(self):
        for leave_bytes in (0, PAGE, 4 * PAGE, 16 * PAGE, 30 * PAGE, MIB):
            with self.subTest(leave_bytes=leave_bytes):
                self.ballast.fill(leave_bytes)
                self.assertFull(self.store.put("-", data=b"x"))
                self.ballast.drop()
                result = self.store.put("-", data=b"x")
                self.assertEqual(result.status, 0, str(result))
                self.assertEqual(self.store.get(file_id(b"x")).out, b"x")
                shutil.rmtree(self.store.path)

    def test_get_to_a_full_disk(self):
        path = self.write("wanted", 2 * MIB)
        self.assertEqual(self.put(path).status, 0)
        target = self.disk / "target"
        self.ballast.fill(MIB)
        self.assertFull(self.store.get("--output", target, *self.held))
        self.assertEqual(sorted(each.name for each in self.disk.glob("target*")), [])
        self.ballast.drop()
        self.assertEqual(self.store.get("--output", target, *self.held).status, 0)
        self.assertEqual(target.read_bytes(), path.read_bytes())

    def test_many_readers_on_a_full_disk(self):
        """Each reader has a place in a table that is a mapped file: were it sparse, the first one
        in a new page of it would die of SIGBUS."""
        path = self.write("wanted", 3 * BLOCK_BYTES)
        self.assertEqual(self.put(path).status, 0)
        self.ballast.fill()
        (wanted,) = self.held
        read = ["store", "get", "--data", self.store.path, wanted]
        readers = [start(*read) for _ in range(scaled(100, 0.7))]
        try:
            # They wait for their pipe to be emptied, and are all there at once.
            wait_for(
                lambda: all(each.poll() is not None or pipe_bytes(each.stdout) for each in readers),
                RUN_TIMEOUT_S,
                "all readers run",
            )
            for each in readers:
                result = finish(each)
                self.assertEqual((result.status, result.err), (0, ""))
                self.assertEqual(result.out, self.contents[wanted])
        finally:
            for each in readers:
                discard(each)

    # -- over HTTP: a body that does not fit is answered while it comes

    def check_refused(self, node, free_bytes):
        """Nothing was published, and no more was read than the disk takes and a little."""
        self.assertEqual(node.get("/fs/first").body, b"first")
        listed = [each["path"] for each in node.get("/fs?depth=all").json["entries"]]
        self.assertEqual(listed, ["first"])
        self.assertLess(node.metrics()["artel_http_body_bytes_total"], free_bytes + 4 * MIB)

    def check_given_back(self, node, free_bytes):
        wait_for(lambda: self.free_bytes() > free_bytes - 4 * MIB, 60, "the space is free again")
        self.assertEqual(node.put("second", os.urandom(20 * MIB)).status, 201)

    def send_too_much(self, node, head, framed):
        """Sends a body without an end until the node answers; gives the answer."""
        with contextlib.closing(node.socket()) as one:
            one.sendall(head)
            piece = os.urandom(64 * KIB)  # no two blocks are alike
            try:
                for number in range(1 << 20):
                    data = number.to_bytes(8, "big") + piece
                    one.sendall(b"%x\r\n%s\r\n" % (len(data), data) if framed else data)
                    if select.select([one], [], [], 0)[0]:
                        break
            except ConnectionError:
                pass  # closed; the answer came before
            return read_until_quiet(one)

    def with_node(self, name, test):
        with self.subTest(name):
            with Node(self.disk / "data") as node:
                node.put("first", b"first")
                free_bytes = self.free_bytes()
                test(node)
                self.check_refused(node, free_bytes)
                self.check_given_back(node, free_bytes)
            shutil.rmtree(self.disk / "data")

    def check_answer(self, answer):
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 507 Insufficient Storage\r\n"), answer[:200])
        self.assertIn(b"\r\nConnection: close\r\n", head + b"\r\n")
        self.assertEqual(json.loads(body)["error"], "no_space")

    def test_a_body_that_does_not_fit(self):
        host = b" HTTP/1.1\r\nHost: x\r\n"
        length = b"Content-Length: %d\r\n" % (1 << 36)
        chunked = b"Transfer-Encoding: chunked\r\n"
        tar = b"Content-Type: application/x-tar\r\n"
        first = tar_header("large", 1 << 32)

        def sends(head, framed, begin=b""):
            begin = b"%x\r\n%s\r\n" % (len(begin), begin) if framed and begin else begin

            def test(node):
                self.check_answer(self.send_too_much(node, head + b"\r\n" + begin, framed))

            return test

        self.with_node("length", sends(b"PUT /fs/big" + host + length, False))
        self.with_node("chunked", sends(b"PUT /fs/big" + host + chunked, True))
        self.with_node("tar", sends(b"PUT /fs/big/" + host + tar + length, False, first))
        atomic = b"PUT /fs/big/?atomic=1" + host + tar + chunked
        self.with_node("atomic", sends(atomic, True, first))

    def publisher(self, *options):
        """A node with files on another disk."""
        node = Node(self.dir / "publisher", *options).start()
        self.addCleanup(node.kill)
        return node

    def reader_of(self, node, *options):
        """One on the small disk."""
        at = "{}:{}".format(*node.address)
        reader = Node(self.disk / "data", "--join", at, *options).start()
        self.addCleanup(reader.kill)
        wait_for(lambda: reader.status()["fingerprint"] == node.status()["fingerprint"], 60, "one tree")
        return reader

    def read_a_part(self, node, path):
        """Of a file; what came is set aside soon after."""
        before = node.metrics()["artel_fetch_files_aside"]
        with contextlib.closing(node.socket()) as one:
            one.sendall(b"GET /fs/%s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            got = 0
            while got < 3 * MIB:
                piece = one.recv(MIB)
                check(piece, "the answer ends early")
                got += len(piece)
        wait_for(lambda: node.metrics()["artel_fetch_files_aside"] > before, 60, "it is set aside")

    def test_what_nobody_waits_for_makes_room(self):
        """Only as much as it takes, the oldest first."""
        publisher = self.publisher("--upload-rate", "1M")
        blocks = {}
        for name in ("older", "newer"):
            data = os.urandom(16 * MIB)
            self.assertEqual(publisher.put(name, data).status, 201)
            blocks[name] = hashlib.sha256(data[:BLOCK_BYTES]).hexdigest()
        reader = self.reader_of(publisher)
        for name in blocks:
            self.read_a_part(reader, name)
        self.ballast.leave(RESERVE_BYTES + 100 * KIB)
        data = os.urandom(2 * MIB)
        answer = reader.put("mine", data)
        self.assertEqual(answer.status, 201, answer)
        self.assertEqual(reader.get("/fs/mine").body, data)
        kept = {name: reader.get(f"/blocks/{each}/data").status for name, each in blocks.items()}
        self.assertEqual(kept, {"older": 404, "newer": 200})
        self.assertEqual(reader.metrics()["artel_fetch_files_aside"], 1)
        # A stream of files has room made, too; and when there is nothing left, it is said.
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("file")
            info.size = 2 * MIB
            tar.addfile(info, io.BytesIO(os.urandom(2 * MIB)))
        self.ballast.leave(RESERVE_BYTES + 100 * KIB)
        answer = reader.put("d/", stream.getvalue(), Content_Type="application/x-tar")
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(reader.metrics()["artel_fetch_files_aside"], 0)
        self.ballast.leave(RESERVE_BYTES + 100 * KIB)
        answer = reader.put("more", os.urandom(2 * MIB))
        self.assertEqual((answer.status, answer.error), (507, "no_space"))
        self.assertEqual(reader.get("/fs/mine").body, data)

    def test_what_others_have_makes_room_if_the_cache_is_limited(self):
        publisher = self.publisher()
        data = os.urandom(12 * MIB)
        self.assertEqual(publisher.put("file", data).status, 201)
        for options, status in ((("--cache-bytes", "1G"), 201), ((), 507)):
            with self.subTest(options=options):
                reader = self.reader_of(publisher, *options)
                self.assertEqual(reader.get("/fs/file").body, data)
                # It was given before it was committed.
                wait_for(
                    lambda: reader.status()["store"]["cache_bytes"] == len(data), 60, "it is kept"
                )
                self.ballast.leave(RESERVE_BYTES + 100 * KIB)
                mine = os.urandom(4 * MIB)
                if status == 201:
                    # A slow machine may need more than one attempt.
                    wait_for(lambda: reader.put("mine", mine).status == 201, 60, "there is room")
                else:
                    answer = reader.put("more", mine)
                    self.assertEqual((answer.status, answer.error), (507, "no_space"))
                self.ballast.drop()
                self.assertEqual(reader.get("/fs/file").body, data)
                reader.stop()

    def test_a_body_that_fails_near_its_end(self):
        """It is heard out, and the connection goes on."""
        with Node(self.disk / "data") as node:
            node.put("first", b"first")
            self.ballast.fill(RESERVE_BYTES + 100 * KIB)
            connection = node.connect()
            answer = node.request("PUT", "/fs/big", bytes(MIB), connection=connection)
            self.assertEqual((answer.status, answer.error), (507, "no_space"))
            used = connection.sock
            answer = node.request("GET", "/fs/first", connection=connection)
            self.assertEqual(answer.body, b"first")
            self.assertIs(connection.sock, used)
            connection.close()

    def test_curl_is_told(self):
        if not shutil.which("curl"):
            self.skipTest("there is no curl")
        large = self.dir / "large"
        with large.open("wb") as file:
            file.truncate(1 << 30)
            for at in range(0, 3 * DISK_MIB):
                file.seek(at * MIB)
                file.write(os.urandom(8))

        def test(node):
            url = "http://{}:{}/fs/big".format(*node.address)
            arguments = ["curl", "-sS", "-w", "%{http_code}", "-T", str(large), url]
            result = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
            self.assertEqual(result.stdout[-3:], "507", result)

        self.with_node("curl", test)

    def test_put_says_why(self):
        for i in range(3):
            (self.source / str(i)).write_bytes(os.urandom(DISK_MIB * MIB // 2))
        with (self.source / "large").open("wb") as file:
            for _ in range(3):
                file.write(os.urandom(DISK_MIB * MIB // 2))

        def test(*arguments):
            def put(node):
                url = "http://{}:{}".format(*node.address)
                result = run("put", "--node", url, *arguments)
                self.assertEqual(result.status, 1, result)
                self.assertIn("the disk is full", result.err)

            return put

        self.with_node("file", test(self.source / "large", "big"))
        self.with_node("atomic", test("--atomic", self.source, "big"))


def discard(process):
    """Whatever state it is in."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def pipe_bytes(pipe):
    """How much waits in a pipe."""
    import fcntl
    import termios

    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def tar_header(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


class TestExt4(DiskFull, unittest.TestCase):
    def mount(self):
        image = self.dir / "image"
        with image.open("wb") as file:
            file.truncate(DISK_MIB * MIB)
        command("mkfs.ext4", "-q", "-m", "0", "-O", "^resize_inode", "-J", "size=4", image)
        command("mount", "-o", "loop", image, self.disk)


class TestTmpfs(DiskFull, unittest.TestCase):
    def mount(self):
        command("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "artel-test", self.disk)


if __name__ == "__main__":
    main()
