# SPDX-License-Identifier: Apache-2.0
"""The verbs that talk to a node, as a person or a script runs them."""

import http.server
import pty
import socket
import stat
import urllib.request

from harness import *

START_TIMEOUT_S = 60 if SANITIZED else 20


class RunningNode:
    """A node of a data directory, on a port of its own."""

    def __init__(self, data, listen="127.0.0.1:0"):
        self.data = data
        self.process = start("node", "--data", data, "--listen", listen, "--log-level", "off")
        line = self.process.stdout.readline().decode()
        check(line.startswith("ready http://"), "the node does not start", line)
        self.url = line.split()[1]

    def stop(self, signal_number=signal.SIGTERM):
        self.process.stdout.close()
        self.process.stdout = None
        return stop(self.process, signal_number)


class VerbsTest(unittest.TestCase):
    maxDiff = None

    def enterContext(self, manager):
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def setUp(self):
        self.dir = self.enterContext(temp_dir())
        self.node = RunningNode(self.dir / "data")
        self.addCleanup(lambda: self.node and self.node.stop())
        self.env = {"ARTEL_NODE": self.node.url}

    def run_verb(self, *arguments, status=0, data=None, env=None):
        process = start(
            *arguments,
            env=self.env | (env or {}),
            cwd=self.dir,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        )
        result = finish(process, data=data)
        self.assertEqual(result.status, status, str(result))
        if status:
            self.assertNotEqual(result.err, "", "fails without a word")
        else:
            self.assertEqual(result.err, "", str(result))
        return result

    def out(self, *arguments, **options):
        return self.run_verb(*arguments, **options).out.decode()

    def json_lines(self, *arguments):
        return [json.loads(line) for line in self.out(*arguments, "--json").splitlines()]

    def write(self, name, data):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def make_tree(self):
        """A directory with all that has to survive a round trip."""
        tree = self.dir / "tree"
        (tree / "sub" / "deep").mkdir(parents=True)
        (tree / "empty").mkdir()
        files = {
            "large": content("large", 3 * BLOCK_BYTES + 17),
            "sub/small": b"small",
            "sub/deep/nothing": b"",
            "sp ace%+?*[x].txt": b"odd",
            "new\nline": b"odder",
            "e\u0301 is not \u00e9": b"a name in Unicode's NFD",
            "\u00e9": b"and one in NFC",
            "sub/" + "n" * 255: b"long",
        }
        for name, data in files.items():
            (tree / name).write_bytes(data)
        (tree / "sub/small").chmod(0o741)
        (tree / "large").chmod(0o400)
        (tree / "link").symlink_to("sub/small")
        (tree / "broken").symlink_to("/no/where")
        (tree / "sub" / "deep").chmod(0o750)
        for name, when in (("sub/small", 1_000_000_000_123_456_789), ("empty", 981_173_106_987_654_321),
                           ("large", -5_000_000_001), ("sub", 1_577_934_245_000_000_001), (".", 10**18 + 7)):
            os.utime(tree / name, ns=(when, when))
        os.utime(tree / "link", ns=(10**18 + 1, 10**18 + 1), follow_symlinks=False)
        return tree, files

    def shape(self, top):
        """All that has to survive of a directory."""
        seen = {}
        for each in [top, *top.rglob("*")]:
            info = each.lstat()
            kind = stat.S_IFMT(info.st_mode)
            link = os.readlink(each) if stat.S_ISLNK(info.st_mode) else None
            data = each.read_bytes() if stat.S_ISREG(info.st_mode) else None
            mode = None if link else stat.S_IMODE(info.st_mode)
            seen[str(each.relative_to(top))] = (kind, mode, info.st_mtime_ns, link, data)
        return seen


class TestFiles(VerbsTest):
    def test_round_trip(self):
        for size in (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * MIB + 3):
            data = content(size, size)
            path = self.write("file", data)
            path.chmod(0o640)
            os.utime(path, ns=(1_234_567_890_123_456_789,) * 2)
            self.assertEqual(self.out("put", path, "a/b"), f"{file_id(data)}  a/b\n")
            self.assertEqual(self.run_verb("get", "a/b", "-").out, data)
            self.assertEqual(self.out("get", "/a/b", "copy"), "")
            copy = self.dir / "copy"
            self.assertEqual(copy.read_bytes(), data)
            self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o640)
            self.assertEqual(copy.stat().st_mtime_ns, 1_234_567_890_123_456_789)
            self.run_verb("get", "--id", file_id(data), "by-id")
            self.assertEqual((self.dir / "by-id").read_bytes(), data)

    def test_standard_input(self):
        data = content("stdin", 2 * MIB)
        self.assertEqual(self.out("put", "-", "in", data=data), f"{file_id(data)}  in\n")
        self.assertEqual(self.run_verb("get", "in", "-").out, data)
        self.run_verb("put", "-", "in", "-m", "0600", data=b"")
        self.assertEqual(self.json_lines("stat", "in")[0]["mode"], "0600")

    def test_a_device_is_written_to(self):
        """And not replaced by a file of its name."""
        self.out("put", self.write("file", b"content"), "a")
        device = self.dir / "null"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        self.run_verb("get", "a", device)
        self.assertTrue(stat.S_ISCHR(device.stat().st_mode))

    def test_where_things_go(self):
        self.write("x", b"x")
        self.write("y", b"y")
        self.out("put", "x", "a/")
        self.out("put", "x", "y", "b")
        self.out("put", "x", "/")
        self.assertEqual(self.out("ls", "-R"), "a/\na/x\nb/\nb/x\nb/y\nx\n")
        (self.dir / "here").mkdir()
        self.run_verb("get", "b/y", "here")
        self.run_verb("get", "b/y", "here/z")
        self.run_verb("get", "b/y")
        self.assertEqual((self.dir / "here/y").read_bytes(), b"y")
        self.assertEqual((self.dir / "here/z").read_bytes(), b"y")

    def test_json(self):
        self.write("x", b"x")
        (line,) = self.json_lines("put", "x", "a")
        self.assertEqual((line["path"], line["id"], line["length"]), ("a", file_id(b"x"), 1))

    def test_many_files_at_once(self):
        names = [f"f{i}" for i in range(300)]
        for name in names:
            self.write(name, name.encode())
        lines = self.out("put", *names, "many").splitlines()
        self.assertEqual(sorted(lines), sorted(f"{file_id(n.encode())}  many/{n}" for n in names))

    def test_conditions(self):
        self.write("x", b"x")
        self.write("y", b"y")
        self.run_verb("put", "-n", "x", "a")
        self.assertIn("condition_failed", self.run_verb("put", "-n", "y", "a", status=1).err)
        self.run_verb("put", "--if-match", file_id(b"x"), "y", "a")
        self.run_verb("put", "--if-match", file_id(b"x"), "x", "a", status=1)
        self.assertEqual(self.run_verb("get", "a", "-").out, b"y")

    def test_in_place(self):
        data = content("in place", 4 * MIB)
        path = self.write("big", data)
        self.assertEqual(self.out("put", "--in-place", path, "a"), f"{file_id(data)}  a\n")
        self.assertEqual(json.loads(self.out("status", "--json"))["store"]["external_files"], 1)
        self.assertEqual(self.run_verb("get", "a", "-").out, data)
        tree, _ = self.make_tree()
        self.run_verb("put", "--in-place", "tree", "t")
        self.run_verb("get", "t", "back")
        seen, wanted = self.shape(self.dir / "back"), self.shape(tree)
        self.assertEqual(seen, wanted)

    def test_a_large_file_in_little_memory(self):
        path = self.dir / "sparse"
        with path.open("wb") as file:
            file.truncate(scaled(1024) * MIB)
        process = subprocess.Popen(
            [str(ARTEL), "put", str(path), "big"], env=environment(self.env), stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        self.assertEqual(status, 0)
        if not SANITIZED:
            self.assertLess(usage.ru_maxrss, 64 * 1024)


class TestDirectories(VerbsTest):
    def test_round_trip(self):
        tree, files = self.make_tree()
        wanted = self.shape(tree)
        for flags, target in (([], "plain"), (["--atomic"], "atomic")):
            out = self.out("put", *flags, "tree", target)
            self.assertRegex(out, rf"^{len(files)} files, .*  {target}/\n$")
            self.run_verb("get", target, f"{target}-back")
            self.assertEqual(self.shape(self.dir / f"{target}-back"), wanted)
            for name, data in files.items():
                self.assertEqual(self.run_verb("get", f"{target}/{name}", "-").out, data)

    def test_atomic_replaces_all(self):
        self.write("one/a", b"a")
        self.write("two/b", b"b")
        self.run_verb("put", "--atomic", "one", "d")
        self.run_verb("put", "--atomic", "two", "d")
        self.assertEqual(self.out("ls", "d"), "b\n")
        self.run_verb("put", "one", "d")
        self.assertEqual(self.out("ls", "d"), "a\nb\n")

    def test_special_files_are_named_and_skipped(self):
        self.write("tree/good", b"good")
        os.mkfifo(self.dir / "tree/fifo")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(self.dir / "tree/socket"))
        for flags in ([], ["--atomic"]):
            err = self.run_verb("put", *flags, "tree", "d", status=1).err
            self.assertEqual(
                sorted(err.splitlines()),
                [f"artel put: tree/{each}: skipped, it is no regular file" for each in ("fifo", "socket")],
            )
            self.assertEqual(self.out("ls", "d"), "good\n")

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_what_cannot_be_read(self):
        self.write("tree/good", b"good")
        self.write("tree/secret", b"secret").chmod(0)
        self.run_verb("put", "tree", "d", status=1)
        self.assertEqual(self.out("ls", "d"), "good\n")
        self.run_verb("put", "--atomic", "tree", "e", status=1)
        self.assertEqual(self.out("ls"), "d/\n")

    def test_into_a_directory_that_is_there(self):
        self.write("tree/a", b"new")
        self.run_verb("put", "tree", "d")
        self.write("out/d/a", b"old")
        self.write("out/d/other", b"other")
        self.run_verb("get", "d", "out")
        self.assertEqual((self.dir / "out/d/a").read_bytes(), b"new")
        self.assertEqual((self.dir / "out/d/other").read_bytes(), b"other")

    def test_a_new_directory_is_like_others(self):
        """The parents of what is published have no mode of their own."""
        self.write("file", b"x")
        self.run_verb("put", "file", "d/e/file")
        (self.dir / "made").mkdir()
        self.run_verb("get", "d", "out")
        self.assertEqual((self.dir / "out").stat().st_mode, (self.dir / "made").stat().st_mode)

    def test_no_link_leads_out(self):
        """What is in the way on this machine is not followed, and nothing else is touched."""
        self.write("tree/sub/a", b"evil")
        self.run_verb("put", "tree", "d")
        victim = self.write("victim/a", b"good")
        (self.dir / "out/d").mkdir(parents=True)
        (self.dir / "out/d/sub").symlink_to(victim.parent)
        self.run_verb("get", "d", "out", status=1)
        self.assertEqual(victim.read_bytes(), b"good")

    def test_the_whole_tree(self):
        self.write("tree/a", b"a")
        self.run_verb("put", "tree", "x/y")
        self.run_verb("get", "/", "all")
        self.assertEqual((self.dir / "all/x/y/a").read_bytes(), b"a")
        self.assertIn("the whole tree", self.run_verb("get", "/", status=1).err)


class TestNames(VerbsTest):
    def setUp(self):
        super().setUp()
        for name in ("a", "b/c", "b/d.txt", "b/e/f.txt"):
            self.write(f"tree/{name}", name.encode())
        self.run_verb("put", "tree", "t")

    def test_ls(self):
        self.assertEqual(self.out("ls"), "t/\n")
        self.assertEqual(self.out("ls", "t"), "a\nb/\n")
        self.assertEqual(self.out("ls", "t/a"), "t/a\n")
        self.assertEqual(self.out("ls", "-R", "t/b"), "c\nd.txt\ne/\ne/f.txt\n")
        self.assertRegex(self.out("ls", "-l", "t"), rf"(?m)^-rw-r--r-- +1  \d{{4}}-.* {file_id(b'a')}  a$")
        entries = self.json_lines("ls", "t")
        self.assertEqual([each["path"] for each in entries], ["t/a", "t/b"])
        self.assertEqual(entries[0]["id"], file_id(b"a"))
        self.assertIn("not_found", self.run_verb("ls", "nope", status=1).err)

    def test_more_names_than_a_page(self):
        for i in range(1200):
            self.write(f"wide/{i:04}", b"")
        self.run_verb("put", "wide", "w")
        self.assertEqual(self.out("ls", "w").split(), [f"{i:04}" for i in range(1200)])

    def test_find(self):
        self.assertEqual(len(self.out("find").splitlines()), 7)
        self.assertEqual(self.out("find", "t", "--match", "*.txt"), "t/b/d.txt\nt/b/e/f.txt\n")
        self.assertEqual(self.out("find", "t", "--match", "b/*.txt"), "t/b/d.txt\n")
        self.assertEqual(self.out("find", "--type", "d"), "t/\nt/b/\nt/b/e/\n")
        self.assertEqual(len(self.json_lines("find", "--type", "file")), 4)
        self.run_verb("find", "t/a", status=1)
        self.run_verb("find", "--type", "x", status=2)

    def test_stat(self):
        out = self.out("stat", "t/a")
        self.assertIn(f"id         {file_id(b'a')}\n", out)
        self.assertIn("length     1\n", out)
        self.assertEqual(self.json_lines("stat", "t/b")[0]["type"], "directory")
        self.assertIn("not_found", self.run_verb("stat", "t/x", status=1).err)
        self.assertIn("bad_path", self.run_verb("stat", "t/../x", status=1).err)

    def test_mkdir_mv_rm(self):
        self.run_verb("mkdir", "m/n")
        self.assertIn("exists", self.run_verb("mkdir", "m/n", status=1).err)
        self.run_verb("mv", "t/a", "m/moved")
        self.run_verb("mv", "m/moved", "t/b/c", "m/n/")
        self.assertEqual(self.out("ls", "m/n"), "c\nmoved\n")
        self.assertIn("not_empty", self.run_verb("rm", "m", status=1).err)
        self.run_verb("rm", "-r", "m")
        self.assertIn("not_found", self.run_verb("rm", "m", status=1).err)
        self.run_verb("rm", "-f", "m")
        for path in ("", "/", "//"):
            self.run_verb("rm", "-rf", path, status=2)
        self.assertEqual(self.out("ls"), "t/\n")

    def test_log(self):
        for text in (b"one", b"two"):
            self.run_verb("put", "-", "l", data=text)
        lines = self.out("log", "l").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(file_id(b"two"), lines[0])
        self.assertIn("(current)", lines[0])
        self.run_verb("get", "--id", file_id(b"one"), "back")
        self.assertEqual((self.dir / "back").read_bytes(), b"one")

    def test_restore(self):
        for text in (b"one", b"two"):
            self.run_verb("put", "-", "d/r", data=text)
        versions = [v["version"] for v in self.json_lines("log", "d/r")[0]["versions"]]
        self.run_verb("rm", "-r", "d")
        self.assertEqual(self.out("restore", "d/r", versions[1]), "")
        self.assertEqual(self.out("get", "d/r", "-"), "one")
        answer = json.loads(self.out("restore", "--json", "/d/r", versions[0]))
        self.assertEqual(answer["path"], "d/r")
        self.assertEqual(self.out("get", "d/r", "-"), "two")
        lines = self.out("log", "d/r").splitlines()
        self.assertIn(f"{answer['version']}  (current)", lines[0])
        self.assertEqual(sum("(current)" in line for line in lines), 1)
        result = self.run_verb("restore", "d/x", versions[0], status=1)
        self.assertIn("d/x", result.err)
        for arguments in (["d/r"], ["d/r", "x"], ["d/r", versions[0], "x"], ["d/r", "\udcff:1"]):
            self.run_verb("restore", *arguments, status=2)
        self.run_verb("restore", "d/r", "x:1", status=1)
        self.assertEqual(self.out("conflicts"), "")
        self.assertEqual(self.out("conflicts", "--json", "d"), "")
        self.run_verb("conflicts", "none", status=1)
        self.run_verb("conflicts", "d", "e", status=2)

    def test_status_and_scrub(self):
        self.assertRegex(self.out("status"), r"(?m)^store.files +4$")
        self.assertIn("fingerprint", json.loads(self.out("status", "--json")))
        self.assertIn("0 blocks bad", self.out("scrub"))
        self.assertEqual(self.json_lines("scrub")[-1]["blocks_bad"], 0)


class TestUsage(VerbsTest):
    def test_calls_that_make_no_sense(self):
        self.write("x", b"x")
        for arguments in (
            ["put"],
            ["put", "x"],
            ["put", "x", ""],
            ["put", "-", "a/"],
            ["put", "-", "x", "a"],
            ["put", "--in-place", "-", "a"],
            ["put", "--in-place", "--atomic", "x", "a"],
            ["put", "-m", "rw", "x", "a"],
            ["put", "--ack", "33", "x", "a"],
            ["put", "--ack", "x", "x", "a"],
            ["put", "--ack", "1", "--ack-wait", "0", "x", "a"],
            ["mkdir", "--ack", "-1", "a"],
            ["mv", "--ack", "1x", "a", "b"],
            ["rm", "--ack", "33", "a"],
            ["restore", "--ack", "33", "a", "a:1"],
            ["put", "-z", "x", "a"],
            ["get"],
            ["get", "a", "b", "c"],
            ["mkdir"],
            ["mv", "a"],
            ["rm"],
            ["log"],
            ["log", "a", "b"],
            ["watch", "a"],
            ["status", "a"],
            ["ls", "--node", "ftp://x"],
            ["store"],
            ["store", "nonsense"],
        ):
            with self.subTest(arguments=arguments):
                self.assertEqual(self.run_verb(*arguments, status=2).out, b"")
        self.assertEqual(self.out("ls"), "")

    def test_failures_are_told(self):
        self.write("x", b"x")
        self.run_verb("put", "x", "d/x")
        for arguments, text in (
            (["put", "nope", "a"], "nope: not found"),
            (["put", "x", "d"], "is_directory"),
            (["put", "x", "d/x/y"], "not_directory"),
            (["put", "x", "a/../b"], "bad_path"),
            (["put", "--atomic", "x", "a"], "--atomic is for directories"),
            (["get", "nope"], "not_found"),
            (["get", "d", "-"], "is a directory"),
            (["get", "--id", "x"], "is no id"),
            (["get", "--id", "0" * 64], "not_found"),
            (["get", "d/x", "no/where"], "not found"),
        ):
            with self.subTest(arguments=arguments):
                self.assertIn(text, self.run_verb(*arguments, status=1).err)

    def test_no_node(self):
        free = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        free.close()
        self.write("x", b"x")
        for verb in (["ls"], ["put", "x", "y"], ["get", "x"], ["status"], ["watch"], ["rm", "x"]):
            err = self.run_verb(*verb, env={"ARTEL_NODE": url}, status=1).err
            self.assertIn(f"no node answers at {url}: start one with `artel node --data DIR`", err)

    def test_the_socket(self):
        self.write("x", b"x")
        for name in (f"unix:{self.dir}/data/socket", f"http+unix://{self.dir}/data/socket"):
            self.run_verb("put", "--node", name, "x", "a")
            self.assertEqual(self.out("ls", "--node", name), "a\n")

    def test_a_proxy_of_the_web_is_not_asked(self):
        self.assertEqual(self.out("ls", env={"http_proxy": "http://127.0.0.1:1"}), "")

    def test_output_that_cannot_be_written(self):
        self.run_verb("put", "-", "x", data=b"x")
        for verb in (["ls"], ["get", "x", "-"], ["status"], ["find"]):
            with open("/dev/full", "wb") as full:
                result = finish(start(*verb, env=self.env, stdout=full))
            self.assertEqual(result.status, 1, str(result))
            self.assertIn("no space left", result.err)


class Liar(http.server.BaseHTTPRequestHandler):
    """A node that gives wrong bytes. What it does is told by the server's `lie`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        data, body, headers, cut = server.content, b"", {}, None
        if self.path.startswith("/fs/"):
            headers = {"X-Artel-Id": server.id}
        if self.path.endswith("/metadata"):
            body = metadata_text(data).encode()
            if server.lie == "metadata":
                body = metadata_text(data + b"x").encode()
        elif self.path.endswith("/data"):
            begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            body = data[begin:]
            if server.lie == "byte":
                body = body[:-5] + bytes([body[-5] ^ 1]) + body[-4:]
            if server.lie == "short":
                body = body[:-1]
            if server.lie == "break" and begin < server.break_until:
                cut = server.step
        self.send_response(206 if "Range" in self.headers else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


class TestLies(VerbsTest):
    """What comes is right or an error; a wrong byte never stands under the final name."""

    def setUp(self):
        super().setUp()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
        self.server.content = content("lies", 5 * BLOCK_BYTES + 99)
        self.server.id = file_id(self.server.content)
        self.server.requests = []
        self.server.lie = None
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.env = {"ARTEL_NODE": f"http://127.0.0.1:{self.server.server_port}"}

    def test_the_truth(self):
        self.run_verb("get", "a", "out")
        self.assertEqual((self.dir / "out").read_bytes(), self.server.content)

    def test_lies(self):
        for lie, text in (
            ("metadata", "list of blocks"),
            ("byte", "block 5 of 6: a byte is wrong"),
            ("short", "too little"),
        ):
            with self.subTest(lie=lie):
                self.server.lie = lie
                self.write("out", b"old")
                self.assertIn(text, self.run_verb("get", "a", "out", status=1).err)
                self.assertEqual((self.dir / "out").read_bytes(), b"old")
                self.assertEqual([each.name for each in self.dir.iterdir() if "artel" in each.name], [])
                out = self.run_verb("get", "a", "-", status=1).out
                self.assertTrue(self.server.content.startswith(out))

    def test_a_connection_that_breaks_is_made_again(self):
        self.server.lie = "break"
        self.server.step = BLOCK_BYTES + 1000
        self.server.break_until = 4 * BLOCK_BYTES
        self.run_verb("get", "a", "out")
        self.assertEqual((self.dir / "out").read_bytes(), self.server.content)
        ranges = [each for path, each in self.server.requests if path.endswith("/data")]
        self.assertEqual(ranges, [None, *(f"bytes={i * BLOCK_BYTES}-" for i in (1, 2, 3, 4))])

    def test_one_that_always_breaks_is_given_up(self):
        self.server.lie = "break"
        self.server.step = 1000
        self.server.break_until = 1 << 40
        self.assertIn("block 0 of 6", self.run_verb("get", "a", "out", status=1).err)
        self.assertFalse((self.dir / "out").exists())


class TestTerminal(VerbsTest):
    """Names that somebody else chose give a terminal no orders."""

    def on_terminal(self, *arguments):
        """What the program writes to a terminal, which is all of its output."""
        ours, theirs = pty.openpty()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, ours)
            process = subprocess.Popen(
                [ARTEL, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
                env=environment(self.env), cwd=self.dir,
            )  # fmt: skip
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # the last one has closed it
                while piece := os.read(ours, 65536):
                    shown += piece
            process.wait(60)
        return shown.decode().replace("\r\n", "\n")

    def test_names(self):
        name = "a\x1b[2J\x9b\x07b"
        self.write(name, b"x")
        self.assertEqual(
            self.on_terminal("put", "--quiet", name, "t/"), f"{file_id(b'x')}  t/a?[2J??b\n"
        )
        self.assertEqual(self.on_terminal("ls", "t"), "a?[2J??b\n")
        self.assertIn("  a?[2J??b\n", self.on_terminal("ls", "-l", "t"))
        self.assertEqual(self.on_terminal("find", "t"), "t/a?[2J??b\n")
        self.assertIn("t/a?[2J??b\n", self.on_terminal("stat", f"t/{name}"))
        error = self.on_terminal("stat", f"u/{name}")
        self.assertIn("artel stat: u/a?[2J??b: ", error)
        # Programs get what it is.
        self.assertEqual(self.out("ls", "t"), name + "\n")


class Tokenless(http.server.BaseHTTPRequestHandler):
    """A node of a network that has more logs than a token can name."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        status, kind, body = 200, "application/json", {"cursor": "7:3"}
        if self.path.startswith("/watch/token"):
            status, body = 409, {"error": "no_token", "message": "too many logs"}
        body = json.dumps(body)
        if self.path.startswith("/watch?"):
            kind = "text/event-stream"
            body = 'id: 7:4\nevent: put\ndata: {"event":"put","path":"a","cursor":"7:4"}\n\n'
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


class TestWatch(VerbsTest):
    def start_watch(self, *arguments):
        process = start("watch", *arguments, env=self.env, cwd=self.dir)
        self.addCleanup(lambda: process.poll() is None and stop(process))
        return process

    def stop_watch(self, process):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        return finish(process)

    def put(self, path, data=b"x"):
        self.run_verb("put", "-", path, data=data)

    def cursor(self):
        return json.loads(self.out("status", "--json"))["cursor"]

    def kept_cursor(self):
        """The first line of the cursor file; the second is a token."""
        file = self.dir / "cursor"
        return file.exists() and file.read_text().splitlines()[0]

    def test_every_kind_of_change(self):
        since = self.cursor()
        self.put("a", b"one")
        self.run_verb("mkdir", "d")
        self.run_verb("mv", "a", "b")
        self.run_verb("rm", "b")
        self.write("tree/x", b"x")
        self.run_verb("put", "--atomic", "tree", "t")
        process = self.start_watch("--since", since, "--json")
        changes = [json.loads(process.stdout.readline()) for _ in range(5)]
        self.stop_watch(process)
        self.assertEqual(
            [(each["event"], each["path"]) for each in changes],
            [("put", "a"), ("mkdir", "d"), ("rename", "b"), ("delete", "b"), ("atomic", "t")],
        )
        self.assertEqual(changes[0]["id"], file_id(b"one"))
        self.assertEqual(changes[2]["from"], "a")

    def test_lines(self):
        since = self.cursor()
        self.put("a")
        self.put("b/c")
        process = self.start_watch("--since", since, "--path", "b/**")
        line = process.stdout.readline().decode()
        self.stop_watch(process)
        self.assertEqual(line, f"put     {file_id(b'x')}  b/c\n")

    def test_a_cursor_file_goes_on(self):
        arguments = ["--json", "--cursor-file", "cursor", "--since", self.cursor()]
        seen = []
        for i in range(3):
            self.put(f"f{i}")
            process = self.start_watch(*arguments)
            seen.append(json.loads(process.stdout.readline())["path"])
            wait_for(
                lambda: self.kept_cursor() == self.cursor(),
                10,
                "the cursor is in the file",
            )
            self.stop_watch(process)
        self.assertEqual(seen, ["f0", "f1", "f2"])

    def test_without_a_token(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokenless)
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        process = self.start_watch("--node", url, "--json", "--cursor-file", "cursor")
        line = process.stdout.readline()
        wait_for(lambda: self.kept_cursor() == "7:4", 10, "the cursor is in the file")
        self.stop_watch(process)
        self.assertEqual(json.loads(line)["path"], "a")
        self.assertIn("/watch?since=7%3A3", server.requests)

    def test_exec(self):
        since = self.cursor()
        for i in range(3):
            self.put(f"f{i}", str(i).encode())
        self.run_verb("mv", "f2", "f3")
        command = 'echo "$ARTEL_EVENT|$ARTEL_PATH|$ARTEL_ID|$ARTEL_FROM|$ARTEL_CURSOR" >> log'
        process = self.start_watch("--since", since, "--exec", command)
        log = self.dir / "log"
        wait_for(lambda: log.exists() and log.read_text().count("\n") == 4, 20, "four commands")
        self.stop_watch(process)
        lines = [line.split("|") for line in log.read_text().splitlines()]
        self.assertEqual(
            [line[:4] for line in lines],
            [["put", f"f{i}", file_id(str(i).encode()), ""] for i in range(3)]
            + [["rename", "f3", "", "f2"]],
        )
        self.assertEqual(lines[3][4], self.cursor())

    def test_a_command_that_fails_is_run_again(self):
        since = self.cursor()
        for name in ("a", "b"):
            self.put(name)
        command = 'echo "$ARTEL_PATH" >> log; test "$(grep -c a log)" -ge 3'
        process = self.start_watch("--since", since, "--cursor-file", "cursor", "--exec", command)
        log = self.dir / "log"
        wait_for(lambda: log.exists() and "b" in log.read_text(), 30, "the second change")
        result = self.stop_watch(process)
        self.assertEqual(log.read_text().split(), ["a", "a", "a", "b"])
        self.assertEqual(result.err.count("put a: the command ended with status 1; trying again"), 2)

    def test_nothing_is_lost_when_the_command_never_succeeds(self):
        since = self.cursor()
        self.put("a")
        process = self.start_watch(
            "--since", since, "--cursor-file", "cursor", "--exec", "echo x >> log; exit 9"
        )
        wait_for(lambda: (self.dir / "log").exists(), 10, "the command")
        self.stop_watch(process)
        process = self.start_watch("--cursor-file", "cursor", "--json")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "a")
        self.stop_watch(process)

    def test_inside_a_command_artel_takes_its_own_arguments(self):
        """ARTEL_PATH and ARTEL_ID of the hook are no settings of the verbs it runs."""
        since = self.cursor()
        self.put("a", b"hook")
        process = self.start_watch(
            "--since", since, "--exec", f'{ARTEL} get "$ARTEL_PATH" got && touch done'
        )
        wait_for(lambda: (self.dir / "done").exists(), 20, "the command")
        self.stop_watch(process)
        self.assertEqual((self.dir / "got").read_bytes(), b"hook")

    def test_a_node_that_comes_back(self):
        process = self.start_watch("--json", "--since", self.cursor())
        self.put("before")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "before")
        listen = self.node.url.removeprefix("http://")
        self.node.stop(signal.SIGKILL)
        self.node = None
        time.sleep(0.5)
        self.node = RunningNode(self.dir / "data", listen)
        self.put("after")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "after")
        self.assertIn("trying again", self.stop_watch(process).err)

    def test_the_cursor_moves_without_changes(self):
        """A watcher of a quiet corner is told the position, and keeps it."""
        self.put("elsewhere")
        process = self.start_watch(
            "--path", "quiet/**", "--cursor-file", "cursor", "--since", self.cursor(), "--json"
        )
        for i in range(3):
            self.put(f"elsewhere{i}")
        wait_for(
            lambda: self.kept_cursor() == self.cursor(),
            40,
            "the cursor is behind changes that do not match",
        )
        self.assertEqual(self.stop_watch(process).out, b"")
        process = self.start_watch("--path", "quiet/**", "--cursor-file", "cursor", "--json")
        self.put("quiet/a")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "quiet/a")
        self.stop_watch(process)

    def test_a_token_goes_on_where_the_cursor_means_nothing(self):
        def token():
            return json.loads(urllib.request.urlopen(f"{self.node.url}/watch/token").read())

        self.put("a")
        first = token()
        self.put("b")
        for since in (
            ["--since", first["token"]],
            ["--cursor-file", "other"],  # a cursor of another node
            ["--cursor-file", "bare"],  # none
        ):
            self.write("other", f"1:2\n{first['token']}\n".encode())
            self.write("bare", f"{first['token']}\n".encode())
            process = self.start_watch("--json", *since)
            self.assertEqual(json.loads(process.stdout.readline())["path"], "b")
            self.assertEqual(self.stop_watch(process).err, "")
        # With its own cursor a node needs no token.
        self.put("c")
        self.write("own", f"{self.cursor()}\n{first['token']}\n".encode())
        process = self.start_watch("--json", "--cursor-file", "own")
        self.put("d")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "d")
        self.stop_watch(process)

    def test_the_file_has_a_token_of_a_while_ago(self):
        """What comes again elsewhere begins behind an earlier cursor of this watch."""
        process = self.start_watch("--json", "--cursor-file", "cursor")
        file = self.dir / "cursor"
        wait_for(
            lambda: file.exists() and len(file.read_text().splitlines()) == 2, 10, "a token"
        )
        first = file.read_text().splitlines()[1]
        for i in range(3):
            self.put(f"f{i}")
            json.loads(process.stdout.readline())
        cursor = self.cursor()
        wait_for(lambda: self.kept_cursor() == cursor, 10, "the cursor")
        # The next sign of life of the node is the time for another one.
        wait_for(lambda: file.read_text().splitlines()[1] != first, 40, "a new token")
        self.stop_watch(process)
        token = file.read_text().splitlines()[1]
        process = self.start_watch("--json", "--since", token)
        self.put("new")
        self.assertEqual(json.loads(process.stdout.readline())["path"], "new")
        self.stop_watch(process)

    def test_gap(self):
        """A cursor of another node's feed: said, and gone on with all that is kept."""
        self.put("a")
        process = self.start_watch("--since", "1:2", "--json")
        changes = [json.loads(process.stdout.readline()) for _ in range(2)]
        self.assertEqual([each["event"] for each in changes], ["gap", "put"])
        self.assertIn("not known any more", self.stop_watch(process).err)

    def test_a_cursor_that_cannot_be(self):
        self.assertIn("bad_cursor", self.run_verb("watch", "--since", "1:x", status=1).err)
        for token in ("x", "01"):
            self.assertIn("bad_cursor", self.run_verb("watch", "--since", token, status=1).err)
        # Too long for a header, and for the node; a line of its own in the file.
        for length, code in ((20000, "bad_cursor"), (800000, "")):
            self.write("long", b"1:1\n" + b"0" * length)
            err = self.run_verb("watch", "--cursor-file", "long", status=1).err
            self.assertIn(code, err)
        self.run_verb("watch", "--since", "", status=2)
        self.write("cursor", b"not a cursor\n")
        self.run_verb("watch", "--cursor-file", "cursor", status=1)


if __name__ == "__main__":
    main()
