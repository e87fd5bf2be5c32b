# SPDX-License-Identifier: Apache-2.0
"""Directories as tar streams, over HTTP: what goes in comes out; what is hostile is refused."""

import gzip
import http.client
import io
import select
import socket
import tarfile

from harness import *

MTIME = 1700000000.123456789
BLOCK = 512
ACCEPT = {"Accept": "application/x-tar"}
NUL = "a name has a NUL in it"
TREE_MAX = 100_000  # changes of one op


class Node:
    """A node on a data directory, and requests to it."""

    def __init__(self, data_dir):
        self.process = start("node", "--data", data_dir, "--listen", "127.0.0.1:0")
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"ready http://(.*):(\d+)\n", line)
        if not found:
            raise Failure(f"the node does not start: {line!r} {stop(self.process)}")
        self.address = (found[1], int(found[2]))

    def stop(self):
        result = stop(self.process, signal.SIGTERM)
        check(result.status == 0, "the node does not end well", result)

    def request(self, method, path, body=None, headers=None, chunked=False):
        """(status, headers, body) of one request."""
        connection = http.client.HTTPConnection(*self.address, timeout=RUN_TIMEOUT_S)
        try:
            headers = dict(headers or {})
            connection.request(method, path, body, headers, encode_chunked=chunked)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def put_tar(self, path, data, atomic=False, **options):
        """(status, parsed answer)"""
        query = "?atomic=1" if atomic else ""
        headers = {"Content-Type": "application/x-tar"} | options.pop("headers", {})
        status, _, body = self.request("PUT", f"/fs/{path}{query}", data, headers, **options)
        return status, json.loads(body)

    def get_tar(self, path):
        status, _, body = self.request("GET", f"/fs/{path}", headers=ACCEPT)
        check(status == 200, f"GET of a tar says {status}", body)
        return body

    def listed(self, path=""):
        """{path: entry} of everything below."""
        status, _, body = self.request("GET", f"/fs/{path}?depth=all&limit=10000")
        if status == 404:
            return {}
        check(status == 200, f"a listing says {status}", body)
        entries = json.loads(body)["entries"]
        return {entry["path"]: entry for entry in entries}

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1])


# ---- making tars ----


def member(name, data=b"", kind=tarfile.REGTYPE, mode=0o644, mtime=MTIME, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.mtime = mtime
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name, mode=0o755, **fields):
    return member(name, kind=tarfile.DIRTYPE, mode=mode, **fields)


def link(name, target, **fields):
    return member(name, kind=tarfile.SYMTYPE, linkname=target, **fields)


def tar(*members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def header(name, size=0, kind=b"0", link_name=b""):
    """A bare ustar header, for what tarfile would not write."""
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 1700000000
    block[156:157] = kind
    block[157 : 157 + len(link_name)] = link_name
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(2 * BLOCK)


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def members_of(data):
    """{name: (type, mode, mtime, link, content)}, and that the stream is whole."""
    check(data.endswith(END), "no end mark")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for info in archive:
            text = archive.extractfile(info).read() if info.isreg() else b""
            check(info.name not in found, "a name twice", info.name)
            text = text if len(text) < 100 else (len(text), hashlib.sha256(text).hexdigest())
            found[info.name] = (info.type, info.mode, info.mtime, info.linkname, text)
    return found


class TarTest(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.dir = self.enterContext(temp_dir())
        self.node = Node(self.dir / "data")
        self.addCleanup(self.node.stop)

    def enterContext(self, manager):
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def assertPut(self, path, data, files, length, atomic=False, **options):
        status, answer = self.node.put_tar(path, data, atomic, **options)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["path"], path.rstrip("/"))
        self.assertEqual((answer["files"], answer["length"]), (files, length), answer)
        return answer

    def assertRefused(self, data, status=400, code="bad_tar", path="d/", atomic=(False, True), why=""):
        """Refused, with that code, and nothing was published."""
        for each in atomic:
            before = self.node.listed()
            found, answer = self.node.put_tar(path, data, each)
            self.assertEqual((found, answer["error"]), (status, code), answer)
            self.assertIn(why, answer["message"])
            self.assertEqual(self.node.listed(), before)


class RoundTripTest(TarTest):
    SAMPLE = [
        directory("./", mode=0o750, mtime=1600000000.5),
        member("a", b"x" * 1000),
        member("empty"),
        directory("void", mode=0o700),
        directory("sub", mode=0o711),
        member("sub/large", content("large", 3 * BLOCK_BYTES + 77), mode=0o4755, mtime=0),
        member("sub/old", b"old", mtime=-5.25),
        link("sub/to-a", "../a"),
        link("abroad", "/nowhere/" + "t" * 300),
        member("deep/" * 40 + "file", b"deep"),
        member("long-" + "n" * 250, b"long"),
    ]
    NAMES = {
        "nfc-\u00e9": b"1",
        "nfd-e\u0301": b"2",
        "nfd-\u00e9": b"3",
        "hangul-\u1100\u1161": b"4",
        "emoji-\U0001f600": b"5",
        "plane-end-\uffff": b"6",
        "new\nline and space": b"7",
        "a=b+c%2F": b"8",
        "back\\slash": b"9",
    }

    def test_what_goes_in_comes_out(self):
        for atomic in (False, True):
            for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
                sample = self.SAMPLE
                if form == tarfile.GNU_FORMAT:  # whole seconds only
                    sample = [member(i.name, d, i.type, i.mode, int(i.mtime), linkname=i.linkname)
                              for i, d in sample]
                data = tar(*sample, form=form)
                path = f"r{int(atomic)}{form}"
                length = sum(len(d) for _, d in sample)
                files = sum(i.type == tarfile.REGTYPE for i, _ in sample)
                self.assertPut(path + "/", data, files, length, atomic)
                expected = members_of(data)
                expected = {name or ".": value for name, value in expected.items()}
                self.assertEqual(members_of(self.node.get_tar(path)), expected)

    def test_nanoseconds_survive(self):
        info, data = member("f", b"x")
        info.pax_headers = {"mtime": "1700000000.123456789"}
        self.assertPut("ns/", tar((info, data)), 1, 1)
        self.assertEqual(self.node.listed("ns")["ns/f"]["mtime"], "2023-11-14T22:13:20.123456789Z")
        self.assertIn(b"mtime=1700000000.123456789\n", self.node.get_tar("ns"))

    def test_names_are_not_normalised(self):
        members = [member(name, data) for name, data in self.NAMES.items()]
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            self.assertPut(f"names{form}/", tar(*members, form=form), len(members), len(members))
            found = members_of(self.node.get_tar(f"names{form}"))
            self.assertEqual({name: each[4] for name, each in found.items()}, self.NAMES)
        self.assertPut("links/", tar(link("l", "to/nfd-e\u0301")), 0, 0)
        self.assertEqual(members_of(self.node.get_tar("links"))["l"][3], "to/nfd-e\u0301")

    def test_a_page_ends_early_if_its_entries_are_long(self):
        target = "\x01" * 4095  # six times as long in JSON
        names = [f"{i:04}" for i in range(1200)]
        self.assertPut("long/", tar(*(link(name, target) for name in names)), 0, 0)
        told, pages, after = [], 0, ""
        while after is not None:
            status, _, body = self.node.request("GET", f"/fs/long?limit=10000{after}")
            self.assertEqual(status, 200)
            self.assertLess(len(body), 24 * 2**20)
            page = json.loads(body)
            self.assertEqual({entry["target"] for entry in page["entries"]}, {target})
            told += [entry["path"].removeprefix("long/") for entry in page["entries"]]
            pages += 1
            after = f"&after={page['next']}" if "next" in page else None
        self.assertEqual(told, names)
        self.assertGreater(pages, 1)

    def test_chunked_and_whole_bodies_of_many_files(self):
        members = [member(f"{i % 7}/{i}", content(i, i % 5000)) for i in range(scaled(3000))]
        data = tar(*members)
        length = sum(len(text) for _, text in members)
        pieces = (data[at : at + 50_001] for at in range(0, len(data), 50_001))
        self.assertPut("c/", pieces, len(members), length, chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
        self.assertPut("w/", data, len(members), length, atomic=True)
        expected = members_of(data)
        self.assertEqual(members_of(self.node.get_tar("c")), expected)
        found = members_of(self.node.get_tar("w"))
        del found["."]  # which the change made
        self.assertEqual(found, expected)

    def test_the_whole_tree(self):
        self.assertPut("", tar(directory("./"), member("top/f", b"1")), 1, 1)
        self.assertEqual(list(members_of(self.node.get_tar(""))), ["top/f"])
        status, answer = self.node.put_tar("", tar(), atomic=True)
        self.assertEqual((status, answer["error"]), (400, "bad_path"))

    def test_an_empty_stream(self):
        self.assertPut("none/", tar(), 0, 0)
        self.assertEqual(self.node.listed()["none"]["type"], "directory")
        answer = self.assertPut("none/", tar(), 0, 0)
        self.assertNotIn("version", answer)
        self.assertEqual(list(members_of(self.node.get_tar("none"))), ["."])
        self.assertPut("", tar(), 0, 0)

    def test_of_a_name_that_comes_twice_the_last_counts(self):
        data = tar(member("f", b"first"), member("x", b"1"), member("f", b"second!"),
                   member("x", b""), directory("x"), member("x/y", b"3"))
        for atomic in (False, True):
            self.assertPut("twice/", data, 2, 8, atomic)
            found = members_of(self.node.get_tar("twice"))
            self.assertEqual(found["f"][4], b"second!")
            self.assertEqual(found["x/y"][4], b"3")
            self.node.request("DELETE", "/fs/twice?recursive=1")

    def test_atomic_leaves_nothing_else(self):
        self.assertPut("at/", tar(member("old", b"1"), member("both", b"2")), 2, 2)
        self.assertPut("at/", tar(member("both", b"three"), member("new/f", b"4")), 2, 6, True)
        self.assertEqual(set(members_of(self.node.get_tar("at"))), {".", "both", "new/f"})
        self.assertPut("at/", tar(), 0, 0, atomic=True)
        self.assertEqual(set(members_of(self.node.get_tar("at"))), {"."})

    def test_not_atomic_leaves_the_rest(self):
        self.assertPut("na/", tar(member("old", b"1"), member("both", b"2")), 2, 2)
        self.assertPut("na/", tar(member("both", b"three")), 1, 5)
        self.assertEqual(set(members_of(self.node.get_tar("na"))), {"old", "both"})

    def test_padding_and_unknown_attributes_are_fine(self):
        info, data = member("f", b"x")
        info.pax_headers = {"SCHILY.xattr.user.a": "b", "comment": "c", "VENDOR.x": "y"}
        self.assertPut("p/", tar((info, data)) + bytes(20 * BLOCK), 1, 1)
        self.assertPut("v7/", header(b"f", 1) + padded(b"y") + END, 1, 1)

    def test_head_and_content_type(self):
        self.assertPut("h/", tar(member("f", b"x")), 1, 1)
        for method in ("HEAD", "GET"):
            status, headers, body = self.node.request(method, "/fs/h", headers=ACCEPT)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/x-tar"))
            self.assertEqual(body == b"", method == "HEAD")


class RefusedTest(TarTest):
    def test_names_that_lead_out(self):
        for name in ("/etc/passwd", "../x", "a/../../x", "a/..", "./../x", "a//b", "a/./b", "/"):
            with self.subTest(name=name):
                self.assertRefused(tar(member("good", b"1"), member(name, b"2")))
        self.assertRefused(header(b"", 0) + END)

    def test_names_that_no_path_has(self):
        for name in ("n" * 256, "/".join(["n" * 200] * 21)):
            self.assertRefused(tar(member("good", b"1"), member(name, b"2")))
        self.assertRefused(header(b"a\xff", 0) + END)
        self.assertRefused(header(b"a\xed\xa0\x80", 0) + END)
        record = b"path=a\xff\n"
        record = b"%d " % (len(record) + 3) + record
        self.assertRefused(header(b"x", len(record), b"x") + padded(record) + header(b"y") + END)

    def test_kinds_that_are_no_files(self):
        for kind in (tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            odd = member("odd", kind=kind, linkname="good" if kind == tarfile.LNKTYPE else "")
            self.assertRefused(tar(member("good", b"1"), odd))
        self.assertRefused(header(b"good") + header(b"h", 3, b"1", b"good") + padded(b"abc") + END)

    def test_below_what_is_no_directory(self):
        self.assertRefused(tar(link("l", "/etc"), member("l/passwd", b"1")))
        self.assertRefused(tar(member("l/passwd", b"1"), link("l", "/etc")))
        self.assertRefused(tar(member("f", b"1"), member("f/g", b"2")))
        self.assertRefused(tar(link(".", "/etc")))
        self.assertRefused(tar(link("l", "t" * 4096)))
        # In different batches the tree says it.
        many = [member(f"m/{i}") for i in range(600)]
        data = tar(link("l", "/etc"), *many, member("l/passwd", b"1"))
        status, answer = self.node.put_tar("d/", data)
        self.assertEqual((status, answer["error"]), (409, "not_directory"))
        self.assertNotIn("d/l/passwd", self.node.listed())
        self.assertRefused(data, path="e/", atomic=[True])

    def test_what_is_in_the_way_in_the_tree(self):
        self.assertPut("way/", tar(member("file", b"1"), member("dir/f", b"2")), 2, 2)
        for atomic in (False, True):
            status, answer = self.node.put_tar("way/file/", tar(member("x", b"1")), atomic)
            self.assertEqual(status, 409, answer)
            status, answer = self.node.put_tar("way/file/", tar(), atomic)
            self.assertEqual(status, 409, answer)
        status, answer = self.node.put_tar("way/", tar(member("dir", b"1")))
        self.assertEqual((status, answer["error"]), (409, "is_directory"))
        self.assertEqual(len(self.node.listed("way")), 3)

    def test_sparse_files(self):
        gnu = bytearray(header(b"s", 512, b"S"))
        gnu[257:265] = b"ustar  \0"
        gnu[386:410] = b"%011o\0" % (1 << 32) + b"%011o\0" % 512
        gnu[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
        gnu[148:156] = b" " * 8
        gnu[148:156] = b"%06o\0 " % sum(gnu)
        self.assertRefused(bytes(gnu) + bytes(512) + END)
        for holes in ("0,0", "0,1,1099511627775,1", "1099511627776,0"):
            info, data = member("s", b"ab"[: 2 * ("0,1" in holes)])
            info.pax_headers = {
                "GNU.sparse.size": str(1 << 40),
                "GNU.sparse.numblocks": str(holes.count(",") // 2 + 1),
                "GNU.sparse.map": holes,
            }
            begin = time.monotonic()
            self.assertRefused(tar((info, data)))
            self.assertLess(time.monotonic() - begin, 10)

    def test_names_with_a_nul(self):
        """libarchive would cut them there."""

        def named(key, value, size=0):
            info, data = member("n", content(("nul", size), size))
            if key == "linkpath":
                info.type, info.size, data = tarfile.SYMTYPE, 0, b""
            info.pax_headers = {key: value}
            return info, data

        for key in ("path", "linkpath"):
            self.assertRefused(tar(named(key, "evil\0.txt")), why=NUL)
        long = header(b"long", 5, b"L") + padded(b"a\0b\0\0") + header(b"f")
        self.assertRefused(long + END, why=NUL)
        first, data = named("path", "evil\0.txt")  # longer than a piece, and the first of all
        first.pax_headers = {"comment": "x" * 300000} | first.pax_headers
        self.assertRefused(tar((first, data)), why=NUL)
        # Wherever it stands between the pieces that the stream comes in, alone it is found.
        for seed in range(scaled(40, 0.2)):
            chance = random.Random(f"{SEED} {seed}")
            names = [f"{i}/" + "ä" * chance.randrange(1, 100) for i in range(chance.randrange(60))]
            good = [named("path", each, chance.choice([0, 10, 5000, 40000])) for each in names]
            self.assertPut(f"good{seed}/", tar(*good), len(good), sum(len(d) for _, d in good))
            last, data = named("path", "evil\0.txt")
            last.pax_headers["comment"] = "x" * chance.randrange(300000)
            self.assertRefused(tar(*good, (last, data)), why=NUL, atomic=(True,))

    def test_lengths_that_lie(self):
        self.assertRefused(header(b"f", 1 << 32) + b"x" * 2048)
        huge = bytearray(header(b"f"))
        huge[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
        for size in (1 << 40, 1 << 62, (1 << 87) + 1):
            huge[124:136] = b"\x80" + size.to_bytes(11, "big")
            huge[148:156] = b" " * 8
            huge[148:156] = b"%06o\0 " % sum(huge)
            self.assertRefused(bytes(huge) + b"x" * 2048 + END)

    def test_streams_that_are_none(self):
        good = tar(member("good", b"1"))
        for data in (b"", b"x", b"x" * 4096, good[:511], gzip.compress(good), b"\x1f\x8b" * 600):
            self.assertRefused(data)

    def test_streams_that_end_too_early(self):
        end = padded(b"x" * 700)
        whole = header(b"f", 700) + end + header(b"sub/", 0, b"5")
        whole += header(b"g", 5) + padded(b"hello")
        late = [len(whole) + more for more in (0, 1, 512, 1023)]
        for size in [*range(512, len(whole), 128), *late]:
            with self.subTest(size=size):
                self.assertRefused((whole + END)[:size], atomic=[True])
        self.assertRefused(header(b"zeros", 4096) + bytes(4096))
        self.assertRefused(header(b"zeros", 4096) + bytes(4096) + bytes(512))

    def test_garbage_behind_the_end(self):
        good = tar(member("good", b"1"))
        late = bytes(100_000) + b"x" + bytes(512)
        for garbage in (b"x", bytes(512) + b"x", bytes(2_000_000), late, header(b"more")):
            self.assertRefused(good + garbage)

    def test_damaged_headers(self):
        for at in (0, 99, 104, 130, 150, 156, 200):
            second = bytearray(header(b"second", 3))
            second[at] ^= 0x41
            data = header(b"first") + bytes(second) + padded(b"abc") + END
            self.assertRefused(data, atomic=[True])

    def test_headers_without_end(self):
        record = b"13 comment=x\n"
        special = header(b"x", len(record), b"x") + padded(record)
        self.assertRefused(special * 100 + header(b"f") + END)
        self.assertRefused((header(b"g", 512, b"g") + bytes(512)) * 100 + header(b"f") + END)
        self.assertRefused(header(b"v", 0, b"V") * 100 + header(b"f") + END)
        for kind in (b"x", b"L", b"K", b"g"):
            self.assertRefused(header(b"x", 1 << 24, kind) + bytes(1 << 24) + header(b"f") + END)
        # The most that it takes: nothing breaks.
        begin = time.monotonic()
        text = b"".join(b"%d k%05d=%s\n" % (50, i, b"v" * 39) for i in range(20_000))
        data = header(b"x", len(text), b"x") + padded(text) + header(b"f") + END
        self.node.put_tar("limit/", data)
        self.assertLess(time.monotonic() - begin, 20)

    def test_random_damage(self):
        """Whatever comes: an answer, the same node, and with atomic all or nothing."""
        data = tar(*[member(f"{i}", content(i, 900)) for i in range(20)], link("l", "t"),
                   directory("sub"))
        choose = random.Random(SEED)
        for _ in range(scaled(200)):
            bad = bytearray(data)
            for _ in range(choose.randrange(1, 8)):
                at = choose.randrange(len(bad))
                action = choose.randrange(3)
                if action == 0:
                    bad[at] = choose.randrange(256)
                elif action == 1:
                    del bad[at : at + choose.randrange(1, 1500)]
                else:
                    bad[at:at] = bad[choose.randrange(len(bad)) :][: choose.randrange(1, 1500)]
                if not bad:
                    bad = bytearray(1)
            before = self.node.listed("x")
            status, answer = self.node.put_tar("x/", bytes(bad), True)
            if status != 200:
                self.assertEqual((status, answer["error"]), (400, "bad_tar"), answer)
                self.assertEqual(self.node.listed("x"), before)


class LimitsTest(TarTest):
    def test_more_entries_than_one_op_has(self):
        def stream(count):
            batch = b"".join(header(b"%07d" % i) for i in range(1000))
            for at in range(0, count, 1000):
                yield batch if at == 0 else b"".join(
                    header(b"%07d" % i) for i in range(at, min(at + 1000, count)))
            yield END

        chunked = {"chunked": True, "headers": {"Transfer-Encoding": "chunked"}}
        status, answer = self.node.put_tar("many/", stream(TREE_MAX + 1000), True, **chunked)
        self.assertEqual((status, answer["error"]), (413, "too_large"), answer)
        self.assertEqual(self.node.listed("many"), {})
        count = scaled(20_000)
        self.assertPut("many/", stream(count), count, 0, True, **chunked)
        self.assertPut("more/", stream(count), count, 0, False, **chunked)

    def test_memory_does_not_grow_with_the_stream(self):
        size = scaled(300, sanitized=0.3) * MIB
        piece = content("piece", MIB)

        def stream():
            yield header(b"big", size)
            for i in range(size // MIB):
                yield i.to_bytes(4, "big") + piece[4:]
            for i in range(2000):
                yield header(b"s%d" % i, 50_000) + padded(i.to_bytes(4, "big") + piece[4:50_000])
            yield END

        for atomic in (False, True):
            before = self.node.rss_kib()
            self.assertPut(f"big{atomic}/", stream(), 2001, size + 2000 * 50_000, atomic,
                           chunked=True, headers={"Transfer-Encoding": "chunked"})
            grown = self.node.rss_kib() - before
            if not SANITIZED:
                self.assertLess(grown, 150 * KIB, "memory grows")
        before = self.node.rss_kib()
        data = self.node.get_tar("bigTrue")
        self.assertEqual(data[-1024:], END)
        self.assertGreater(len(data), size + 2000 * 50_000)
        if not SANITIZED:
            self.assertLess(self.node.rss_kib() - before, 50 * KIB)

    def answered(self, connections, count):
        """Those that were, if they are so many."""
        answered, _, _ = select.select(connections, [], [], 0)
        return answered if len(answered) >= count else None

    def test_too_many_uploads_at_once(self):
        open_ones = [self.begin() for _ in range(40)]
        try:
            answered = wait_for(lambda: self.answered(open_ones, 8), RUN_TIMEOUT_S, "8 are refused")
            answers = [connection.recv(4096) for connection in answered]
            self.assertEqual(len(answers), 8, answers)
            for text in answers:
                self.assertTrue(text.startswith(b"HTTP/1.1 503 "), text)
                self.assertIn(b'"busy"', text)
        finally:
            for connection in open_ones:
                connection.close()
        wait_for(lambda: self.node.put_tar("after/", tar(member("f", b"1")))[0] == 200, 10,
                 "uploads that were broken off are forgotten")
        self.assertEqual(set(self.node.listed()), {"after", "after/f"})

    def begin(self, query="", length=1 << 30, body=b""):
        """A raw connection in the middle of an upload."""
        connection = socket.create_connection(self.node.address, timeout=RUN_TIMEOUT_S)
        connection.sendall(
            f"PUT /fs/raw/{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
            f"Content-Length: {length}\r\n\r\n".encode() + body)
        return connection

    def test_broken_off_uploads_publish_nothing(self):
        data = tar(*[member(f"f{i}", content(i, 5000)) for i in range(100)])
        for query in ("", "?atomic=1"):
            for size in (0, 100, 512, 5000, len(data) // 2, len(data)):
                connection = self.begin(query, len(data) + 1, data[:size])
                time.sleep(0.05)
                connection.close()
        connection = self.begin("?atomic=1", len(data), data[:-1])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        connection.close()
        self.assertPut("whole/", data, 100, 500_000)
        self.assertEqual(self.node.listed("raw"), {})

    def test_a_client_that_ends_in_an_atomic_upload_of_many_files(self):
        """Content that was committed ahead of the change leaves no entry."""
        files = [header(b"f%06d" % i, 20) + padded(b"%020d" % i) for i in range(2000)]
        connection = self.begin("?atomic=1", body=b"".join(files))
        time.sleep(0.3)
        connection.close()
        self.assertEqual(self.node.listed("raw"), {})
        self.assertPut("raw/", b"".join(files) + END, 2000, 40_000, True)

    def test_an_early_error_is_told(self):
        """Also to a client that does not look for an answer while it sends, as long as what it
        sends is dropped (LINGER_BYTES_MAX)."""
        for size in (100 * KIB, 900 * KIB, 8 * MIB):
            data = tar(member("../out", b"1")) + content("rest", size)
            for chunked in (False, True):
                body = iter([data[:size], data[size:]]) if chunked else data
                options = {"headers": {"Transfer-Encoding": "chunked"}} if chunked else {}
                status, answer = self.node.put_tar("d/", body, chunked=chunked, **options)
                self.assertEqual((status, answer["error"]), (400, "bad_tar"), answer)

    def test_the_node_stops_in_the_middle_of_uploads(self):
        data = b"".join(header(b"f%06d" % i, 20) + padded(b"%020d" % i) for i in range(3000))
        connections = [self.begin(query, body=data[:size]) for query in ("", "?atomic=1")
                       for size in (100, 700_000, len(data))]
        time.sleep(0.1)
        begin = time.monotonic()
        self.node.stop()
        self.assertLess(time.monotonic() - begin, 10)
        for connection in connections:
            connection.close()
        self.node = Node(self.dir / "data")
        self.addCleanup(self.node.stop)
        paths = self.node.listed("raw")
        for path in paths:
            self.assertEqual(self.node.request("GET", f"/fs/{path}")[0], 200)

    def test_puts_and_gets_at_once(self):
        def one(number):
            members = [member(f"{i}", content((number, i), 3000)) for i in range(scaled(700))]
            data = tar(*members)
            self.assertPut(f"p{number}/", data, len(members), 3000 * len(members), number % 2 == 1)
            self.assertEqual(
                {name: each for name, each in members_of(self.node.get_tar(f"p{number}")).items()
                 if name != "."}, members_of(data))

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for result in [pool.submit(one, number) for number in range(8)]:
                result.result()


class DamageTest(TarTest):
    def test_a_stream_with_a_damaged_file_breaks_off(self):
        big = content("big", 2 * MIB)
        self.assertPut("d/", tar(member("a", b"first"), member("b", big), member("c", b"x")), 3,
                       len(big) + 6)
        segments = list((self.dir / "data" / "segments").iterdir())
        marker = big[BLOCK_BYTES * 5 + 1000 :][:64]
        for path in segments:
            data = path.read_bytes()
            at = data.find(marker)
            if at >= 0:
                with open(path, "r+b") as file:
                    file.seek(at)
                    file.write(b"damage")
                break
        else:
            self.fail("the block is in no segment")
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)) as caught:
            self.node.get_tar("d")
        if isinstance(caught.exception, http.client.IncompleteRead):
            self.assertFalse(caught.exception.partial.endswith(END))
        self.assertEqual(self.node.request("GET", "/fs/d/a")[2], b"first")

    def test_a_client_that_goes_in_the_middle(self):
        """A large file is not read to its end for nobody."""
        size = scaled(200, sanitized=0.3) * MIB
        piece = content("goes", MIB)
        pieces = [header(b"f", size), *[piece] * (size // MIB), END]
        self.assertPut("g/", b"".join(pieces), 1, size)
        for _ in range(20):
            connection = socket.create_connection(self.node.address, timeout=RUN_TIMEOUT_S)
            connection.sendall(
                b"GET /fs/g HTTP/1.1\r\nHost: x\r\nAccept: application/x-tar\r\n\r\n")
            self.assertTrue(connection.recv(100_000).startswith(b"HTTP/1.1 200 "))
            connection.close()

    def test_a_directory_that_is_no_more(self):
        status, _, _ = self.node.request("GET", "/fs/no", headers=ACCEPT)
        self.assertEqual(status, 404)

    def test_a_tree_that_changes_while_it_is_told(self):
        """What was there all the time is in the stream, once."""
        count = scaled(3000)
        members = [member(f"stay{i:05}", b"s") for i in range(count)]
        self.assertPut("s/", tar(*members), count, count)
        ended = threading.Event()

        def change():
            number = 0
            while not ended.is_set():
                number += 1
                self.node.request("PUT", f"/fs/s/stay00100~{number}", b"x")
                self.node.request("DELETE", f"/fs/s/stay00100~{number - 5}")

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(10):
                found = members_of(self.node.get_tar("s"))
                self.assertEqual(sum("~" not in name for name in found), count)
        finally:
            ended.set()
            thread.join()


if __name__ == "__main__":
    main()
