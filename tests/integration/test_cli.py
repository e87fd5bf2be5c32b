# SPDX-License-Identifier: Apache-2.0
"""The verbs as a person or a script runs them: what they print, and how they end."""

import socket
import stat

from harness import *

VERBS = ("put", "get", "ls", "rm", "scrub", "status")
HEX = re.compile("[0-9a-f]{64}")
NOBODY = 65534
IS_ROOT = os.geteuid() == 0


def snapshot(path):
    """All that can be seen of a directory: names, kinds, sizes, times, bytes."""
    seen = {}
    for each in [path, *sorted(path.rglob("*"))]:
        info = each.lstat()
        data = each.read_bytes() if stat.S_ISREG(info.st_mode) else None
        seen[str(each)] = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, data)
    return seen


def segments_bytes(data_dir):
    """What the segments take on the disk, as du counts it."""
    return sum(each.stat().st_blocks * 512 for each in (data_dir / "segments").iterdir())


def json_lines(result):
    return [json.loads(line) for line in result.out.splitlines()]


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = self.enterContext(temp_dir())
        self.data = self.dir / "data"
        self.store = Store(self.data)

    def write(self, name, data):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def assertEnds(self, result, status, *texts):
        """It ended with `status`, and standard error has all of the texts, or is empty for 0."""
        self.assertEqual(result.status, status, str(result))
        for text in texts:
            self.assertIn(str(text), result.err, str(result))
        if status == 0 and not texts:
            self.assertEqual(result.err, "", str(result))
        elif status:
            self.assertNotEqual(result.err, "", "fails without a word")
        self.assertNotIn("unknown error", result.err)
        return result

    def put(self, data, name="file"):
        """Stores bytes and gives the id that was printed."""
        path = self.write(name, data)
        result = self.assertEnds(self.store.put(path), 0)
        printed, shown = result.out.decode().rstrip("\n").split("  ", 1)
        self.assertEqual(shown, str(path))
        return printed

    def flip(self, data):
        """Flips one bit of a stored block."""
        for segment in (self.data / "segments").iterdir():
            content_bytes = bytearray(segment.read_bytes())
            at = content_bytes.find(data)
            if at >= 0:
                with segment.open("r+b") as file:
                    file.seek(at + len(data) // 2)
                    file.write(bytes([content_bytes[at + len(data) // 2] ^ 0x10]))
                return
        self.fail("the block is in no segment")


class TestHelp(CliTest):
    def test_help_goes_to_standard_output(self):
        for arguments in (["--help"], ["-h"], ["help"]):
            out = self.assertEnds(run(*arguments), 0).out.decode()
            for verb in VERBS:
                self.assertRegex(out, rf"(?m)^  {verb} +\S")

    def test_each_verb_tells_its_flags(self):
        for verb in VERBS:
            out = self.assertEnds(run("store", verb, "--help"), 0).out.decode()
            self.assertTrue(out.startswith(f"usage: artel store {verb} "), out)
            self.assertIn("--data", out)
            self.assertEqual(run("help", "store", verb).out.decode(), out)
            self.assertEqual(run("store", verb, "-h").out.decode(), out)
            # Help wins over whatever else is there, and nothing is done.
            self.assertEqual(run("store", verb, "--data", self.data, "--help").out.decode(), out)
        self.assertFalse(self.data.exists())

    def test_version(self):
        out = self.assertEnds(run("--version"), 0).out.decode()
        self.assertRegex(out, r"^artel \d+\.\d+\.\d+\n$")

    def test_output_that_cannot_be_written_is_a_failure(self):
        self.put(b"x")
        for arguments in (["ls"], ["status"], ["put", self.dir / "file"]):
            with open("/dev/full", "wb") as full:
                result = finish(
                    start("store", arguments[0], "--data", self.data, *arguments[1:], stdout=full)
                )
            self.assertEnds(result, 1, "no space left")


class TestUsage(CliTest):
    """Calls that make no sense: status 2, a line that says why, and nothing is done."""

    def test_calls_that_make_no_sense(self):
        file = self.write("file", b"x")
        data = ["--data", self.data]
        cases = [
            ([], "usage:"),
            (["nonsense"], "no verb 'nonsense'"),
            (["help", "nonsense"], "no verb 'nonsense'"),
            (["--nonsense"], "no verb"),
            (["store", "put", *data], "nothing to put"),
            (["store", "put", *data, "--nonsense", file], "no flag --nonsense"),
            (["store", "put", *data, "-x", file], "no flag -x"),
            (["store", "put", file, "--data"], "--data needs a value"),
            (["store", "put", *data, "--json=1", file], "--json takes no value"),
            (["store", "put", *data, "--in-place", "-"], "standard input"),
            (["store", "put", *data, "--output", "x", file], "no flag --output"),
            (["store", "put", *data, "--log-level", "loud", file], "'loud' is no log level"),
            (["store", "put", *data, "--log-level", "x" * 5000, file], "too long"),
            (["store", "get", *data], "Give its id"),
            (["store", "rm", *data], "Give its id"),
            (["store", "ls", *data, "x"], "no arguments"),
            (["store", "status", *data, "x"], "no arguments"),
            (["store", "scrub", *data, "x"], "no arguments"),
            (["put", *data, file], "no flag --data"),
            (["ls", *data], "no flag --data"),
        ]
        for arguments, text in cases:
            with self.subTest(arguments=arguments):
                result = self.assertEnds(run(*arguments), 2, text)
                self.assertEqual(result.out, b"")
                self.assertFalse(self.data.exists(), "something was done")

    def test_names_that_no_member_can_have(self):
        cases = [
            ("", "empty"),
            ("a\nb", "control characters"),
            ("\x1b[2J", "control characters"),
            ("a\u009bb", "control characters"),
            ("a\udcff", "not UTF-8"),
            ("x" * 65, "longer than 64 bytes"),
            ("\u00e9" * 33, "longer than 64 bytes"),
        ]
        for flag in ("--name", "--zone"):
            for name, text in cases:
                with self.subTest(flag=flag, name=name):
                    arguments = ("node", "--data", self.data, flag, name)
                    result = self.assertEnds(run(*arguments), 2, f"the {flag[2:]} is", text)
                    self.assertEqual(result.out, b"")
                    self.assertFalse(self.data.exists(), "something was done")
            env = {"ARTEL_" + flag[2:].upper(): "x" * 65}
            self.assertEnds(run("node", "--data", self.data, env=env), 2, "longer than 64 bytes")

    def test_no_data_directory_named(self):
        env = {"ARTEL_DATA": ""}
        for verb, arguments in (("ls", []), ("put", [self.write("file", b"x")])):
            self.assertEnds(run("store", verb, *arguments, env=env), 1, "--data", "ARTEL_DATA")

    def test_flags_end_at_two_dashes(self):
        path = self.write("--json", b"x")
        process = start("store", "put", "--data", self.data, "--", "--json", cwd=self.dir)
        self.assertEqual(
            self.assertEnds(finish(process), 0).out.decode(), f"{file_id(b'x')}  --json\n"
        )
        self.assertTrue(path.exists())

    def test_a_flag_takes_its_value_either_way(self):
        self.put(b"x")
        self.assertEqual(
            self.assertEnds(run("store", "ls", f"--data={self.data}"), 0).out,
            self.store.run("ls").out,
        )

    def test_segments_are_as_long_as_told(self):
        with temp_dir() as root:
            store = Store(root / "data")
            data = content("segments", 4 * BLOCK_BYTES)
            (root / "file").write_bytes(data)
            result = store.put("--segment-bytes", "512K", root / "file")
            self.assertEqual(result.status, 0, result)
            self.assertEqual(len(list((store.path / "segments").iterdir())), 2)
            store.verify({file_id(data): data}, [file_id(data)])

    def test_a_bad_length_of_segments_is_refused(self):
        for text in ("63K", "65G", "0", "1X", "-1", "16777216T", "many"):
            for verb in (("store", "put", "x"), ("node",)):
                result = run(*verb, "--data", "/nowhere", "--segment-bytes", text)
                self.assertEqual(result.status, 2, result)
                self.assertIn("--segment-bytes is a size of 64K to 64G", result.err)

    def test_a_bad_rate_is_refused(self):
        self.put(b"x")
        for rate in ("-1", "10X", "fast"):
            self.assertEnds(self.store.run("scrub", "--rate", rate), 2, "rate")


class TestPut(CliTest):
    def test_ids_are_of_the_canonical_text(self):
        sizes = (0, 1, 65536, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5)
        for size in sizes:
            data = content(("ids", size), size)
            expected = file_id(data)
            self.assertEqual(self.put(data, f"file-{size}"), expected)
            stdin = self.assertEnds(self.store.put("-", data=data), 0)
            self.assertEqual(stdin.out.decode(), f"{expected}  -\n")
            self.assertEqual(self.assertEnds(self.store.get(expected), 0).out, data)
        self.assertEqual(
            self.store.listed(),
            {
                file_id(content(("ids", size), size)): (size, -(-size // BLOCK_BYTES), "origin")
                for size in sizes
            },
        )

    def test_blocks_grow_behind_256_mib(self):
        first, rest = 256 * MIB, MIB + 17
        path = self.dir / "large"
        with path.open("wb") as file:
            file.truncate(first + rest)
        small, large, last = (
            hashlib.sha256(bytes(size)).hexdigest() for size in (BLOCK_BYTES, MIB, 17)
        )
        blocks = [{"id": small, "size": BLOCK_BYTES}] * (first // BLOCK_BYTES)
        blocks += [{"id": large, "size": MIB}, {"id": last, "size": 17}]
        text = json.dumps({"length": first + rest, "blocks": blocks}, separators=(",", ":"))
        expected = hashlib.sha256(text.encode()).hexdigest()
        result = self.assertEnds(self.store.put(path), 0)
        self.assertEqual(acknowledged(result), {expected})
        with path.open("rb") as file:
            result = finish(start("store", "put", "--data", self.data, "-", stdin=file))
        self.assertEqual(acknowledged(result), {expected})
        status = json.loads(self.store.run("status", "--json").out)
        # The same block a thousand times is kept once. (Copies that were written before the first
        # of them was named are dead, and given back at the next tidying.)
        self.assertEqual((status["files"], status["blocks"]), (1, 3))
        self.assertEqual(status["live_bytes"], BLOCK_BYTES + MIB + 17)
        self.assertEnds(self.store.scrub(), 0)
        self.assertLess(segments_bytes(self.data), 2 * MIB)

    def test_several_files_and_directories(self):
        contents = {
            str(self.write(name, content(name, 5000))): content(name, 5000)
            for name in ("tree/a", "tree/b/c", "tree/b/d/e", "alone")
        }
        (self.dir / "tree" / "empty").mkdir()
        result = self.assertEnds(self.store.put(self.dir / "tree", self.dir / "alone"), 0)
        lines = dict(line.split("  ", 1)[::-1] for line in result.out.decode().splitlines())
        self.assertEqual(lines, {path: file_id(data) for path, data in contents.items()})
        self.store.verify({file_id(data): data for data in contents.values()}, lines.values())

    def test_json(self):
        data = content("json", 3 * BLOCK_BYTES)
        path = self.write("file", data)
        expected = {"id": file_id(data), "path": str(path), "length": len(data), "new": len(data)}
        result = self.assertEnds(self.store.put("--json", path), 0)
        self.assertEqual(json_lines(result), [expected])
        result = self.assertEnds(self.store.put("--json", path), 0)
        self.assertEqual(json_lines(result), [expected | {"new": 0}])

    def test_what_fails_is_named_and_the_rest_is_stored(self):
        good = self.write("good", b"good")
        missing = self.dir / "missing"
        result = self.assertEnds(self.store.put(missing, good, missing), 1, missing, "not found")
        self.assertEqual(result.out.decode(), f"{file_id(b'good')}  {good}\n")

    def test_special_files_are_named_and_skipped(self):
        tree = self.dir / "tree"
        self.write("tree/good", b"good")
        self.write("target", b"target")
        os.mkfifo(tree / "fifo")
        listener = self.enterContext(socket.socket(socket.AF_UNIX))
        listener.bind(str(tree / "socket"))
        (tree / "link").symlink_to(self.dir / "target")
        (tree / "dangling").symlink_to("nowhere")
        (tree / "loop").symlink_to(".")
        special = ["fifo", "socket", "link", "dangling", "loop"]
        if IS_ROOT:
            with contextlib.suppress(PermissionError):
                os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
                special.append("device")
        result = self.assertEnds(self.store.put(tree), 1)
        self.assertEqual(result.out.decode(), f"{file_id(b'good')}  {tree / 'good'}\n")
        lines = result.err.splitlines()
        self.assertEqual(
            sorted(lines),
            sorted(
                f"artel store put: {tree / each}: skipped, it is no regular file"
                for each in special
            ),
        )
        # The same by name: none of them is opened, a FIFO would hang.
        for each in (tree / "fifo", tree / "socket", tree / "dangling", "/dev/zero"):
            result = self.assertEnds(self.store.put(each), 1, f"{each}: ")
            self.assertEqual(result.out, b"")
            result = self.assertEnds(self.store.put(each, in_place=True), 1, f"{each}: ")

    def test_a_link_on_the_command_line_is_followed(self):
        self.write("tree/file", b"target")
        (self.dir / "link").symlink_to("tree/file")
        (self.dir / "tree-link").symlink_to("tree")
        for link in (self.dir / "link", self.dir / "tree-link"):
            for in_place in (False, True):
                result = self.assertEnds(self.store.put(link, in_place=in_place), 0)
                self.assertEqual(acknowledged(result), {file_id(b"target")})

    def test_names_that_would_break_a_line(self):
        names = {"new\nline": b"n", "back\\slash": b"b", "both\\\n\\n": b"c", " blank ": b"s"}
        for name, data in names.items():
            path = self.write(f"tree/{name}", data)
            result = self.assertEnds(self.store.put(path), 0)
            # As sha256sum does it.
            shown = str(path).replace("\\", "\\\\").replace("\n", "\\n")
            mark = "\\" if shown != str(path) else ""
            self.assertEqual(result.out.decode(), f"{mark}{file_id(data)}  {shown}\n")
            (line,) = json_lines(self.assertEnds(self.store.put("--json", path), 0))
            self.assertEqual((line["id"], line["path"]), (file_id(data), str(path)))
        result = self.assertEnds(self.store.put(self.dir / "tree"), 0)
        self.assertEqual(len(result.out.splitlines()), len(names))

    def test_names_that_are_not_utf8(self):
        path = os.fsencode(self.dir) + b"/\xff\xfe-\x01"
        with open(path, "wb") as file:
            file.write(b"odd")
        shown = os.fsdecode(path)
        result = self.assertEnds(self.store.put(shown), 0)
        self.assertEqual(result.out, file_id(b"odd").encode() + b"  " + path + b"\n")
        result = self.assertEnds(self.store.put("--json", shown), 0)
        self.assertEqual(json_lines(result)[0]["id"], file_id(b"odd"))
        result = self.assertEnds(self.store.put("--in-place", shown), 0)
        self.assertEqual(self.store.get(file_id(b"odd")).out, b"odd")

    def test_unreadable_files_are_named(self):
        bad, good = self.write("tree/bad", b"bad"), self.write("tree/good", b"good")
        locked = self.dir / "tree" / "locked"
        self.write("tree/locked/inside", b"inside")
        bad.chmod(0)
        locked.chmod(0)
        self.addCleanup(locked.chmod, 0o700)
        data = self.dir / "own" / "data"
        result = run_unprivileged(self, "store", "put", "--data", data, self.dir / "tree")
        self.assertEnds(result, 1, f"{bad}: not permitted", f"{locked}: not permitted")
        self.assertEqual(result.out.decode(), f"{file_id(b'good')}  {good}\n")

    def test_a_closed_reader_is_no_crash(self):
        path = self.write("file", b"x")
        read_end, write_end = os.pipe()
        os.close(read_end)
        with open(write_end, "wb") as output:
            result = finish(start("store", "put", "--data", self.data, path, stdout=output))
        self.assertEnds(result, 1, "the reader has gone")

    def test_a_directory_that_holds_the_store(self):
        """Its own files are left out: its locks would go with a descriptor of the index."""
        held = self.put(content("self", 3 * BLOCK_BYTES))
        other = self.write("sub/other", b"other")
        result = self.store.put(self.dir)
        why = "skipped, it is in the data directory of this store"
        self.assertEnds(result, 1, f"{self.data}: {why}")
        self.assertEqual(result.err.count("skipped"), 1)
        names = {line.split("  ")[1] for line in result.out.decode().splitlines()}
        self.assertEqual(names, {str(other), str(self.dir / "file")})
        link = self.dir / "link"
        link.symlink_to(self.data / "index")
        for inside in (self.data, self.data / "index" / "lock.mdb", self.data / "index", link):
            for in_place in (False, True):
                result = self.assertEnds(self.store.put(inside, in_place=in_place), 1, why)
                self.assertEqual(result.out, b"")
        self.assertEqual(set(self.store.listed()), {held, file_id(b"other")})
        self.assertEnds(self.store.scrub(), 0)

    def test_a_file_that_becomes_a_pipe(self):
        """Between the walk and the reading of the file: nobody waits for its other end."""
        path = self.write("file", b"x")
        readers = ["-"] * (os.cpu_count() or 1)  # one for each thread, which waits for its end
        process = start(
            "store", "put", "--data", self.data, *readers, path, self.dir / "missing",
            stdin=subprocess.PIPE,
        )  # fmt: skip
        line = process.stderr.readline().decode()
        self.assertIn("missing: not found", line)  # the walk is past the file
        path.unlink()
        os.mkfifo(path)
        self.assertEnds(finish(process, data=b""), 1, f"{path}: changed in the meantime")


def run_unprivileged(test, *arguments):
    """Runs the program as a user whom permissions bind; `own` is a directory of his."""
    options = {}
    own = test.dir / "own"
    own.mkdir(exist_ok=True)
    if IS_ROOT:
        # Neither the program nor the directory of the test need be open to others.
        program = test.dir / "artel"
        shutil.copy(ARTEL, program)
        program.chmod(0o755)
        test.dir.chmod(0o755)
        os.chown(own, NOBODY, NOBODY)
        options = dict(executable=program, user=NOBODY, group=NOBODY, extra_groups=[])
    return finish(start(*arguments, **options))


class TestNoStore(CliTest):
    def test_only_put_makes_one(self):
        """A scrub of a disk that is not mounted must not say that all is well."""
        for verb, arguments in (("scrub", []), ("rm", [file_id(b"x")]), ("ls", []), ("status", [])):
            self.assertEnds(self.store.run(verb, *arguments), 1, "there is no store")
            self.assertFalse(self.data.exists(), verb)

    def test_a_file_that_may_not_grow(self):
        self.put(content("grow", BLOCK_BYTES))
        target = self.dir / "target"
        id = file_id(content("grow", BLOCK_BYTES))
        command = f'ulimit -f 100; exec "{ARTEL}" store get --data "{self.data}" --output "{target}" {id}'
        result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
        self.assertEqual((result.returncode, bool(result.stderr)), (1, True))
        self.assertFalse(target.exists())


class TestGet(CliTest):
    def setUp(self):
        super().setUp()
        self.content = content("get", 3 * BLOCK_BYTES + 100)
        self.id = self.put(self.content)
        self.target = self.dir / "out" / "target"
        self.target.parent.mkdir()

    def assertNothingLeft(self, *names):
        self.assertEqual(sorted(each.name for each in self.target.parent.iterdir()), sorted(names))

    def test_to_standard_output_one_after_the_other(self):
        other = self.put(b"other")
        result = self.assertEnds(self.store.get(self.id, other, self.id), 0)
        self.assertEqual(result.out, self.content + b"other" + self.content)
        result = self.assertEnds(self.store.get("--output", "-", other), 0)
        self.assertEqual(result.out, b"other")

    def test_to_a_file(self):
        self.target.write_bytes(b"what was there before")
        result = self.assertEnds(self.store.get("--output", self.target, self.id), 0)
        self.assertEqual(result.out, b"")
        self.assertEqual(self.target.read_bytes(), self.content)
        self.assertNothingLeft("target")

    def test_into_a_pipe_with_a_name(self):
        """Devices and pipes are written to, never replaced."""
        os.mkfifo(self.target)
        process = start("store", "get", "--data", self.store.path, "--output", self.target, self.id)
        reader = subprocess.run(["cat", self.target], stdout=subprocess.PIPE, timeout=20)
        self.assertEqual(reader.stdout, self.content)
        self.assertEqual(finish(process).status, 0)
        self.assertTrue(self.target.is_fifo())

    def test_what_is_not_here(self):
        unknown = file_id(b"unknown")
        result = self.assertEnds(self.store.get(unknown), 1, unknown, "no such file version")
        self.assertEqual(result.out, b"")
        self.assertEnds(self.store.get("--output", self.target, unknown), 1, unknown)
        self.assertNothingLeft()

    def test_ids_that_are_none(self):
        for bad in ("", "x", "../etc/passwd", self.id[:-1], self.id + "0", self.id.upper()):
            result = self.assertEnds(self.store.get(bad), 1, f"'{bad}' is no id")
            self.assertEqual(result.out, b"")

    def test_a_get_that_fails_leaves_nothing(self):
        self.flip(self.content[2 * BLOCK_BYTES : 3 * BLOCK_BYTES])
        result = self.assertEnds(self.store.get("--output", self.target, self.id), 1, self.id)
        self.assertNothingLeft()
        self.target.write_bytes(b"older")
        result = self.assertEnds(self.store.get("--output", self.target, self.id), 1, "block 2")
        self.assertNothingLeft("target")
        self.assertEqual(self.target.read_bytes(), b"older")
        # Standard output gets what is right, and not one byte of what is wrong.
        result = self.assertEnds(self.store.get(self.id), 1, self.id)
        self.assertEqual(result.out, self.content[: 2 * BLOCK_BYTES])

    def test_places_that_cannot_be_written(self):
        directory = self.target.parent / "directory"
        directory.mkdir()
        self.assertEnds(self.store.get("--output", directory, self.id), 1, directory)
        self.assertNothingLeft("directory")
        nowhere = self.dir / "nowhere" / "file"
        self.assertEnds(self.store.get("--output", nowhere, self.id), 1, nowhere, "not found")
        self.assertEnds(self.store.get("--output", "/dev/full/x", self.id), 1, "not a directory")

    def test_into_a_pipe_that_closes(self):
        process = start("store", "get", "--data", self.data, self.id)
        self.assertEqual(process.stdout.read(100), self.content[:100])
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(RUN_TIMEOUT_S), 1, err)
        self.assertIn("the reader has gone", err)

    def test_beside_a_writer(self):
        with held_by_another(self) as process:
            self.assertEqual(self.assertEnds(self.store.get(self.id), 0).out, self.content)
            self.assertEqual(len(self.store.listed()), 1)
            self.assertEqual(json.loads(self.store.run("status", "--json").out)["files"], 1)
            self.assertIsNone(process.poll())


THE_OTHER = content("the other", BLOCK_BYTES)


@contextlib.contextmanager
def held_by_another(test):
    """Another process writes test.data; it waits for its standard input."""
    process = start("store", "put", "--data", test.data, "-", stdin=subprocess.PIPE)
    try:
        process.stdin.write(THE_OTHER)
        process.stdin.flush()
        # Written behind the opening, and nothing more until the end of the input.
        segments = test.data / "segments"
        wait_for(
            lambda: any(THE_OTHER in each.read_bytes() for each in segments.glob("*")),
            30,
            "the first block is in a segment",
        )
        yield process
        test.assertEnds(finish(process, data=b"the rest"), 0)
    finally:
        if process.returncode is None:
            stop(process)


class TestLsAndStatus(CliTest):
    def test_json(self):
        contents = [content(("ls", i), size) for i, size in enumerate((0, 10, 2 * BLOCK_BYTES))]
        for i, data in enumerate(contents):
            self.put(data, f"file-{i}")
        expected = [
            {
                "id": file_id(data),
                "length": len(data),
                "blocks": -(-len(data) // BLOCK_BYTES),
                "state": "origin",
            }
            for data in contents
        ]
        result = self.assertEnds(self.store.run("ls", "--json"), 0)
        self.assertEqual(json_lines(result), sorted(expected, key=lambda each: each["id"]))
        status = json.loads(self.assertEnds(self.store.run("status", "--json"), 0).out)
        self.assertTrue(all(isinstance(value, int) for value in status.values()), status)
        self.assertEqual((status["format"], status["files"], status["blocks"]), (1, 3, 3))
        self.assertEqual(status["live_bytes"], sum(map(len, contents)))
        text = self.assertEnds(self.store.run("status"), 0).out.decode()
        shown = {name: int(value) for name, value in map(str.split, text.splitlines())}
        self.assertEqual(shown, status)

    def test_an_empty_store(self):
        self.assertEnds(self.store.put("-", data=b""), 0)
        self.assertEnds(self.store.rm(file_id(b"")), 0)
        self.assertEqual(self.assertEnds(self.store.run("ls"), 0).out, b"")
        self.assertEnds(self.store.scrub(), 0)

    def test_where_there_is_no_store(self):
        for verb, arguments in (("ls", []), ("status", []), ("get", [file_id(b"x")])):
            result = self.assertEnds(self.store.run(verb, *arguments), 1, "no store", self.data)
            self.assertEqual(result.out, b"")
            self.assertFalse(self.data.exists(), "reading made something")


class TestRm(CliTest):
    def test_gives_space_back(self):
        keep, large = content("keep", BLOCK_BYTES + 7), content("large", 16 * BLOCK_BYTES)
        shared = large[:BLOCK_BYTES]  # one block of both
        small = [content(("small", i), 10000) for i in range(50)]
        self.put(keep, "keep")
        before = segments_bytes(self.data)
        ids = [self.put(data, f"rm-{i}") for i, data in enumerate([large, *small])]
        shared_id = self.put(shared, "shared")
        after = segments_bytes(self.data)
        self.assertGreaterEqual(after - before, len(large) + 50 * 10000 - 8 * KIB)
        self.assertEqual(self.assertEnds(self.store.rm(*ids), 0).out, b"")
        # Ends of ranges that share a page with what lives stay.
        self.assertLessEqual(segments_bytes(self.data), before + len(shared) + 16 * KIB)
        kept = {file_id(keep): keep, shared_id: shared}
        self.store.verify(kept, must=kept)
        self.assertEqual(set(self.store.listed()), set(kept))
        self.assertEnds(self.store.get(ids[0]), 1, "no such file version")

    def test_what_is_not_here(self):
        good = self.put(b"good")
        unknown = file_id(b"unknown")
        result = self.store.rm(unknown, "nonsense", good)
        self.assertEnds(result, 1, f"{unknown}: not kept here", "'nonsense' is no id")
        self.assertEqual(self.store.listed(), {})
        self.assertEnds(self.store.rm(good), 1, "not kept here")

    def test_a_file_put_twice_is_removed_once(self):
        data = content("twice", 1000)
        self.assertEqual(self.put(data, "a"), self.put(data, "b"))
        self.assertEnds(self.store.rm(file_id(data)), 0)
        self.assertEqual(self.store.listed(), {})


class TestScrub(CliTest):
    def test_all_is_well(self):
        self.put(content("scrub", 2 * BLOCK_BYTES))
        out = self.assertEnds(self.store.scrub(), 0).out.decode()
        self.assertIn("checked 2 blocks, 524288 bytes, 1 files: 0 blocks bad, 0 files hit", out)
        report = json.loads(self.assertEnds(self.store.run("scrub", "--json"), 0).out)
        self.assertEqual((report["blocks_checked"], report["bad_blocks"]), (2, []))

    def damage(self):
        """Two files that share a block, which is damaged, and one that is well."""
        shared = content("shared", BLOCK_BYTES)
        contents = [shared + b"a", shared + b"b", content("well", 50000)]
        ids = [self.put(data, f"file-{i}") for i, data in enumerate(contents)]
        self.flip(shared)
        return shared, contents, ids

    def test_a_flipped_bit_is_found_and_mended(self):
        shared, contents, ids = self.damage()
        result = self.store.scrub()
        self.assertEqual(result.status, 1, str(result))
        out = result.out.decode()
        self.assertIn(f"bad block {hashlib.sha256(shared).hexdigest()}\n", out)
        for each in ids[:2]:
            self.assertIn(f"file {each} lacks 1 of its blocks\n", out)
        self.assertNotIn(ids[2], out)
        self.assertIn("1 blocks bad, 2 files hit", out)
        self.assertEnds(self.store.get(ids[0]), 1, "block 0", "lost")
        self.assertEqual(self.assertEnds(self.store.get(ids[2]), 0).out, contents[2])
        self.assertEqual(json.loads(self.store.run("status", "--json").out)["lost_blocks"], 1)
        # It stays a failure until it is mended, by any file that has the block.
        self.assertEqual(self.store.scrub().status, 1)
        self.put(contents[0], "again")
        self.assertEnds(self.store.scrub(), 0)
        for each, data in zip(ids, contents):
            self.assertEqual(self.assertEnds(self.store.get(each), 0).out, data)

    def test_json_names_what_is_hit(self):
        shared, _, ids = self.damage()
        result = self.store.run("scrub", "--json")
        self.assertEqual(result.status, 1, str(result))
        report = json.loads(result.out)
        self.assertEqual(report["bad_blocks"], [hashlib.sha256(shared).hexdigest()])
        self.assertEqual(sorted(report["files_hit"]), sorted(ids[:2]))

    def test_rate(self):
        self.put(content("rate", 4 * BLOCK_BYTES))
        begin = time.monotonic()
        self.assertEnds(self.store.run("scrub", "--rate", "2M"), 0)
        self.assertGreater(time.monotonic() - begin, 0.3)


class TestSettings(CliTest):
    def setUp(self):
        super().setUp()
        self.stores = {}
        for name in ("file", "environment", "flag"):
            self.stores[name] = self.dir / name
            put = run("store", "put", "--data", self.dir / name, "-", data=name.encode())
            self.assertEnds(put, 0)
        self.config = self.write("artel.conf", f"# where\ndata = {self.stores['file']}\n".encode())

    def shown(self, *arguments, env=None):
        env = {"ARTEL_DATA": "", "ARTEL_CONFIG": ""} | (env or {})
        out = self.assertEnds(run("store", "ls", *arguments, env=env), 0).out.decode()
        ids = {file_id(name.encode()): name for name in self.stores}
        return ids[out.split()[0]]

    def test_the_nearer_one_wins(self):
        env = {"ARTEL_DATA": str(self.stores["environment"])}
        config = ["--config", self.config]
        flag = ["--data", self.stores["flag"]]
        self.assertEqual(self.shown(*config), "file")
        self.assertEqual(self.shown(env={"ARTEL_CONFIG": str(self.config)}), "file")
        self.assertEqual(self.shown(env=env), "environment")
        self.assertEqual(self.shown(*config, env=env), "environment")
        self.assertEqual(self.shown(*config, *flag), "flag")
        self.assertEqual(self.shown(*flag, *config, env=env), "flag")

    def test_switches_from_elsewhere(self):
        flag = ["--data", self.stores["flag"]]
        self.assertEqual(len(json_lines(run("store", "ls", *flag, env={"ARTEL_JSON": "yes"}))), 1)
        self.config.write_text("json = on\n")
        self.assertEqual(len(json_lines(run("store", "ls", *flag, "--config", self.config))), 1)
        out = run("store", "ls", *flag, "--config", self.config, env={"ARTEL_JSON": "0"}).out
        self.assertTrue(HEX.match(out.decode()), out)

    def test_one_file_serves_all_verbs(self):
        """A key of another verb is no mistake: put has in-place, ls has not."""
        self.config.write_text(f"data = {self.stores['file']}\nlog-level = warn\n")
        for verb in ("ls", "status", "scrub"):
            self.assertEnds(run("store", verb, "--config", self.config), 0)

    def test_mistakes_are_told_with_their_line(self):
        flag = ["--data", self.stores["flag"], "--config", self.config]
        for text in ("\n\ndatta = x\n", "\n\nno setting\n", "\n\njson = perhaps\n"):
            self.config.write_text(text)
            self.assertEnds(run("store", "ls", *flag), 2, f"{self.config}, line 3")
        missing = self.dir / "missing"
        self.assertEnds(run("store", "ls", *flag[:2], "--config", missing), 2, missing, "not found")
        self.assertEnds(run("store", "ls", *flag[:2], "--config", self.dir), 2, "is a directory")
        self.assertEnds(run("store", "ls", *flag[:2], env={"ARTEL_JSON": "perhaps"}), 2, "ARTEL_")


class TestStoreThatCannotBeUsed(CliTest):
    """A clear message, status 1, and the directory as it was."""

    def setUp(self):
        super().setUp()
        self.file = self.write("file", b"new")

    def calls(self):
        arguments = {"put": [self.file], "get": [file_id(b"x")], "rm": [file_id(b"x")]}
        return [(verb, arguments.get(verb, [])) for verb in VERBS]

    def assertRefused(self, verbs, *texts):
        for verb, arguments in self.calls():
            if verb not in verbs:
                continue
            with self.subTest(verb=verb):
                before = snapshot(self.data)
                result = self.assertEnds(self.store.run(verb, *arguments), 1, *texts)
                self.assertEqual(result.out, b"")
                self.assertEqual(snapshot(self.data), before, f"{verb} changed something")

    def test_in_use_by_another_process(self):
        held = self.put(b"x")
        with held_by_another(self) as process:
            self.assertRefused(["put", "rm", "scrub"], "in use by process", process.pid)
        self.assertIn(held, self.store.listed())
        self.assertIn(file_id(THE_OTHER + b"the rest"), self.store.listed())
        self.assertEnds(self.store.put(self.file), 0)

    def test_the_lock_of_a_killed_process_is_gone(self):
        self.put(b"x")
        process = start("store", "put", "--data", self.data, "-", stdin=subprocess.PIPE)
        lock = self.data / "lock"
        wait_for(lambda: lock.read_text() == f"{process.pid}\n", 10, "lock is held")
        stop(process)
        self.assertEnds(self.store.put(self.file), 0)

    def test_another_version(self):
        self.put(b"x")
        for text, named in (("artel store 2\n", "2"), ("artel store 99999\n", "99999")):
            (self.data / "format").write_text(text)
            self.assertRefused(VERBS, self.data, f"format {named}", "format 1")
        for text in ("", "artel store 1", "artel store 0\n", "something else\n", "x" * 1000):
            (self.data / "format").write_text(text)
            self.assertRefused(VERBS, self.data)
        (self.data / "format").write_text("artel store 1\n")
        self.assertEqual(self.assertEnds(self.store.get(file_id(b"x")), 0).out, b"x")

    def test_a_foreign_directory(self):
        self.write("data/precious", b"precious")
        self.assertRefused(["put", "rm", "scrub"], self.data, "not an artel store")
        self.assertRefused(["ls", "get", "status"], self.data, "no store")

    def test_a_directory_that_only_looks_like_one(self):
        """Names of ours and one of somebody else's."""
        self.write("data/segments/x", b"x")
        self.write("data/index/data.mdb", b"x" * 8192)
        self.write("data/thesis.txt", b"precious")
        self.assertRefused(["put", "rm", "scrub"], self.data, "not an artel store")

    def test_no_directory_at_all(self):
        self.data.write_bytes(b"a file")
        self.assertRefused(VERBS, self.data, "not a directory")
        store = Store(self.dir / "nowhere" / "data")
        for verb, arguments in self.calls():
            self.assertEnds(store.run(verb, *arguments), 1, store.path)
        self.assertFalse(store.path.parent.exists())

    def test_read_only_by_permission(self):
        held = self.put(b"x")
        everything = [self.data, *self.data.rglob("*")]
        for each in everything:
            each.chmod(0o555 if each.is_dir() else 0o444)
        try:
            for verb, arguments in self.calls():
                if verb not in ("put", "rm", "scrub"):
                    continue
                before = snapshot(self.data)
                result = run_unprivileged(self, "store", verb, "--data", self.data, *arguments)
                self.assertEnds(result, 1, self.data, "not permitted")
                self.assertEqual(snapshot(self.data), before, f"{verb} changed something")
        finally:
            for each in everything:
                each.chmod(0o755 if each.is_dir() else 0o644)
        self.assertEqual(self.assertEnds(self.store.get(held), 0).out, b"x")

    def test_read_only_file_system(self):
        held = self.put(b"x")
        mount = ["mount", "--bind", self.data, self.data]
        if not IS_ROOT or subprocess.run(mount, capture_output=True).returncode:
            self.skipTest("bind mounts need root")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", self.data], check=True)
            self.assertRefused(["put", "rm", "scrub"], self.data, "cannot be written here")
            # Reading goes on.
            before = snapshot(self.data)
            self.assertEqual(self.assertEnds(self.store.get(held), 0).out, b"x")
            self.assertEqual(list(self.store.listed()), [held])
            self.assertEnds(self.store.run("status"), 0)
            self.assertEqual(snapshot(self.data), before, "reading changed something")
        finally:
            subprocess.run(["umount", self.data], check=True)


if __name__ == "__main__":
    main()
