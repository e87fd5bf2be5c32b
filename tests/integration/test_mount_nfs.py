# SPDX-License-Identifier: Apache-2.0
"""The recipe of docs/SHARING.md for nfs-ganesha, on a mount, checked with the tools of libnfs."""

import contextlib
import ctypes
import os
import pathlib
import re
import socket
import subprocess
import unittest

import harness
import mount
from harness import check, content, wait_for
from node import Node

RECIPE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "SHARING.md"
LIBRARY = pathlib.Path("/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so")
START_S = 60


class Ganesha:
    """nfs-ganesha with the configuration of the recipe; what it keeps is in `where`."""

    def __init__(self, where, path):
        self.where = where
        (where / "recovery").mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        text = re.search(r"```\n(NFS_CORE_PARAM.*?)```", RECIPE.read_text(), re.DOTALL)[1]
        text, paths = re.subn(r"(?m)^(\s*Path =).*;$", rf"\1 {path};", text)
        own = f"    NFS_Port = {self.port};\n    Bind_addr = 127.0.0.1;\n"
        text, cores = re.subn(r"NFS_CORE_PARAM {\n", r"\g<0>" + own, text)
        own = f'    RecoveryBackend = fs;\n    RecoveryRoot = "{where}/recovery";\n'
        text, versions = re.subn(r"NFSV4 {\n", r"\g<0>" + own, text)
        check((paths, cores, versions) == (1, 1, 1), "an odd recipe", text)
        self.config = where / "ganesha.conf"
        self.config.write_text(text)

    def __enter__(self):
        words = ("ganesha.nfsd", "-F", "-f", self.config, "-L", self.where / "log", "-p",
                 self.where / "pid")  # fmt: skip
        self.out = open(self.where / "out", "wb")
        self.process = subprocess.Popen([*map(str, words)], stdin=subprocess.DEVNULL, stdout=self.out,
                                        stderr=self.out)  # fmt: skip
        try:
            wait_for(self.answers, START_S, "ganesha answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.out.close()

    def answers(self):
        log = (self.where / "log").read_text() if (self.where / "log").exists() else ""
        check(self.process.poll() is None, "ganesha ends", log[-4000:])
        return "NFS SERVER INITIALIZED" in log

    def url(self, path):
        return f"nfs://127.0.0.1/tree{path}?version=4&nfsport={self.port}"

    def run(self, tool, *words, fails=False):
        """What a tool of libnfs prints."""
        result = subprocess.run([tool, *map(str, words)], capture_output=True, timeout=START_S)
        told = result.stdout[:1000] + result.stderr
        check((result.returncode != 0) == fails, tool, told.decode(errors="replace"))
        return result.stdout


class Client:
    """A client that stays connected; errors are OSError."""

    def __init__(self, ganesha):
        self.library = ctypes.CDLL("libnfs.so.13")
        for name in ("nfs_init_context", "nfs_parse_url_dir"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.library.nfs_get_error.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p(self.library.nfs_init_context())
        url = ganesha.url("").encode()
        check(self.library.nfs_parse_url_dir(self.context, url), "an odd URL", url)
        self.call("nfs_mount", b"127.0.0.1", b"/tree")

    def call(self, name, *arguments):
        result = getattr(self.library, name)(self.context, *arguments)
        if result < 0:
            raise OSError(-result, self.library.nfs_get_error(self.context).decode())
        return result

    def open(self, path, flags):
        handle = ctypes.c_void_p()
        self.call("nfs_open", path.encode(), flags, ctypes.byref(handle))
        return handle

    def create(self, path, data):
        """libnfs 4 can't write more than some KiB at once by NFS 4, which its nfs-cp would do."""
        handle = ctypes.c_void_p()
        self.call("nfs_create", path.encode(), os.O_RDWR, 0o644, ctypes.byref(handle))
        self.write(handle, data)
        self.call("nfs_close", handle)

    def write(self, handle, data, offset=0):
        for at in range(0, len(data), 2048):
            piece = data[at : at + 2048]
            count = self.call("nfs_pwrite", handle, ctypes.c_uint64(offset + at),
                              ctypes.c_uint64(len(piece)), piece)  # fmt: skip
            check(count == len(piece), "a short write")

    def read(self, handle, size, offset=0):
        buffer = ctypes.create_string_buffer(size)
        count = self.call("nfs_pread", handle, ctypes.c_uint64(offset), ctypes.c_uint64(size), buffer)
        return buffer.raw[:count]

    def close(self):
        self.library.nfs_destroy_context(self.context)


class Sharing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        why = mount.need("ganesha.nfsd", "nfs-ls", "nfs-cp", "nfs-cat")
        why = why or ("nfs-ganesha needs root" if os.geteuid() else "")
        why = why or ("" if LIBRARY.exists() else "not installed: nfs-ganesha-vfs")
        if why:
            raise unittest.SkipTest(why)
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        cls.root = stack.enter_context(harness.temp_dir())
        cls.node = stack.enter_context(Node(cls.root / "data", "--scrub-rate", "0"))
        cls.mount = stack.enter_context(mount.Mount(cls.node, cls.root / "mount", "-o", "allow_other"))
        cls.nfs = stack.enter_context(Ganesha(cls.root / "nfs", cls.mount.path))

        cls.client = Client(cls.nfs)
        stack.callback(cls.client.close)

    def test_files_come_and_go(self):
        for size in (0, 1, 5000, 600001):
            data = content(size, size)
            self.client.create(f"/f{size}", data)
            self.assertEqual((self.mount.path / f"f{size}").read_bytes(), data)
            self.assertEqual(self.nfs.run("nfs-cat", self.nfs.url(f"/f{size}")), data)
            wait_for(lambda: self.node.get(f"/fs/f{size}").body == data, START_S, "the node has it")

    def test_a_file_is_changed_in_the_middle(self):
        data = bytearray(content("middle", 300000))
        (self.mount.path / "middle").write_bytes(data)
        handle = self.client.open("/middle", os.O_RDWR)
        self.client.write(handle, b"changed by NFS", 123456)
        data[123456 : 123456 + 14] = b"changed by NFS"
        self.assertEqual(self.client.read(handle, 100, 123450), data[123450:123550])
        self.client.call("nfs_ftruncate", handle, ctypes.c_uint64(200000))
        self.client.call("nfs_fsync", handle)
        self.client.call("nfs_close", handle)
        self.assertEqual((self.mount.path / "middle").read_bytes(), data[:200000])

    def test_names(self):
        self.client.call("nfs_mkdir", b"/names")
        self.client.create("/names/\u00e4", b"x")
        self.client.call("nfs_rename", "/names/\u00e4".encode(), b"/names/other")
        self.client.create("/names/more", b"more")
        self.client.call("nfs_rename", b"/names/more", b"/names/other")
        self.client.call("nfs_symlink", b"other", b"/names/link")
        self.assertEqual(os.readlink(self.mount.path / "names/link"), "other")
        self.assertEqual((self.mount.path / "names/other").read_bytes(), b"more")
        with self.assertRaises(OSError):
            self.client.call("nfs_rmdir", b"/names")
        for name in (b"other", b"link"):
            self.client.call("nfs_unlink", b"/names/" + name)
        self.client.call("nfs_rmdir", b"/names")
        self.assertFalse((self.mount.path / "names").exists())

    def test_listings(self):
        (self.mount.path / "list/d").mkdir(parents=True)
        for number in range(300):
            (self.mount.path / f"list/f{number}").write_bytes(b"x" * number)
        told = self.nfs.run("nfs-ls", self.nfs.url("/list")).decode()
        names = {line.split()[-1]: int(line.split()[-2]) for line in told.splitlines()}
        self.assertEqual(set(names), {"d", *(f"f{number}" for number in range(300))})
        self.assertEqual(names["f299"], 299)

    def test_what_another_node_would_change(self):
        for number in range(5):
            data = b"version %d" % number + b"." * number * 1000
            check(self.node.put("other/f", data).status in (200, 201), "put")
            wait_for(lambda: (self.mount.path / "other/f").exists()
                     and (self.mount.path / "other/f").read_bytes() == data, START_S, "at the mount")
            wait_for(lambda: self.nfs.run("nfs-cat", self.nfs.url("/other/f")) == data, START_S, "by NFS")
        check(self.node.delete("other/f").status in (200, 204), "delete")
        wait_for(lambda: not (self.mount.path / "other/f").exists(), START_S, "gone at the mount")
        self.nfs.run("nfs-cat", self.nfs.url("/other/f"), fails=True)

    def test_files_that_the_kernel_forgot(self):
        """Ganesha holds on to names of files that it knows by number alone."""
        for number in range(50):
            (self.mount.path / f"kept{number}").write_bytes(b"%d" % number)
            self.nfs.run("nfs-cat", self.nfs.url(f"/kept{number}"))
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")
        for number in range(50):
            self.assertEqual(self.nfs.run("nfs-cat", self.nfs.url(f"/kept{number}")), b"%d" % number)

    def test_errors(self):
        self.nfs.run("nfs-cat", self.nfs.url("/nothing"), fails=True)
        self.nfs.run("nfs-ls", self.nfs.url("/nothing"), fails=True)


if __name__ == "__main__":
    unittest.main()
