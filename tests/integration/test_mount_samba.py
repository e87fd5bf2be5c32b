# SPDX-License-Identifier: Apache-2.0
"""The recipe of docs/SHARING.md for Samba, on a mount: what Windows and macOS would see of it."""

import contextlib
import getpass
import os
import pathlib
import re
import signal
import socket
import subprocess
import unittest

import harness
import mount
from harness import MIB, check, content, wait_for
from node import Node
from test_mount_tools import make_sources, tree

RECIPE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "SHARING.md"
PASSWORD = "secret"
START_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Samba:
    """smbd with the configuration of the recipe; what it keeps is in `where`."""

    def __init__(self, where, path):
        self.where, self.port = where, free_port()
        self.user = getpass.getuser()
        self.state = where / "state"
        self.state.mkdir(parents=True)
        text = re.search(r"```ini\n(\[global\].*?)```", RECIPE.read_text(), re.DOTALL)[1]
        own = {name: str(self.state) for name in (
            "private dir", "lock directory", "state directory", "cache directory", "pid directory",
            "ncalrpc dir")}  # fmt: skip
        own |= {"log file": str(self.state / "log"), "smb ports": str(self.port),
                "interfaces": "127.0.0.1/8", "bind interfaces only": "yes"}  # fmt: skip
        lines = "".join(f"    {name} = {value}\n" for name, value in own.items())
        text = text.replace("[global]\n", "[global]\n" + lines)
        text, paths = re.subn(r"(?m)^(\s*path =).*$", rf"\1 {path}", text)
        text, users = re.subn(r"(?m)^(\s*force user =).*$", rf"\1 {self.user}", text)
        check((paths, users) == (1, 1), "the recipe has one path and one user", text)
        self.config = where / "smb.conf"
        self.config.write_text(text)

    def __enter__(self):
        for words, data in (
            (("testparm", "-s", self.config), b""),
            (("smbpasswd", "-c", self.config, "-s", "-a", self.user), f"{PASSWORD}\n" * 2),
        ):
            data = data.encode() if isinstance(data, str) else data
            result = subprocess.run([*map(str, words)], input=data, capture_output=True, timeout=START_S)
            told = (result.stdout + result.stderr).decode(errors="replace")
            check(result.returncode == 0, words[0], told)
            check("Unknown parameter" not in told, "the recipe names what Samba does not know", told)
        self.log = open(self.where / "smbd.log", "wb")
        # A session of its own, so that it ends with the processes that serve connections.
        self.process = subprocess.Popen(["smbd", "-F", "--no-process-group", "-s", self.config],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)  # fmt: skip
        try:
            wait_for(self.answers, START_S, "smbd answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(START_S)
        self.log.close()

    def answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True

    def client(self, *commands, fails=False, cwd=None):
        """What smbclient prints; it must succeed, or fail."""
        words = ["smbclient", "-s", self.config, "-p", str(self.port), "-U", f"{self.user}%{PASSWORD}",
                 "//127.0.0.1/tree", "-c", "; ".join(commands)]  # fmt: skip
        result = subprocess.run([*map(str, words)], capture_output=True, cwd=cwd, timeout=START_S)
        told = (result.stdout + result.stderr).decode(errors="replace")
        failed = result.returncode != 0 or "NT_STATUS_" in told
        check(failed == fails, f"smbclient: status {result.returncode}", commands, told)
        return told


class Sharing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        why = mount.need("smbd", "smbclient", "smbpasswd", "testparm")
        why = why or ("smbd needs root" if os.geteuid() else "")
        if why:
            raise unittest.SkipTest(why)
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        cls.root = stack.enter_context(harness.temp_dir())
        cls.node = stack.enter_context(Node(cls.root / "data", "--scrub-rate", "0"))
        cls.mount = stack.enter_context(mount.Mount(cls.node, cls.root / "mount"))
        cls.samba = stack.enter_context(Samba(cls.root / "samba", cls.mount.path))

    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1]
        self.mounted = self.mount.path / self.name
        self.mounted.mkdir()
        self.local = self.root / self.name
        self.local.mkdir()

    def client(self, *commands, **options):
        return self.samba.client(f"cd {self.name}", *commands, cwd=self.local, **options)

    def test_files_come_and_go(self):
        for size in (0, 1, 5000, 3 * MIB + 1):
            data = content(size, size)
            (self.local / "file").write_bytes(data)
            self.client("put file there")
            self.assertEqual((self.mounted / "there").read_bytes(), data)
            self.client("get there back")
            self.assertEqual((self.local / "back").read_bytes(), data)
            answer = self.node.get(f"/fs/{self.name}/there")
            wait_for(lambda: self.node.get(f"/fs/{self.name}/there").body == data, START_S, answer)

    def test_names(self):
        (self.local / "file").write_bytes(b"x")
        names = ["a b c", "\u00e4\u20ac.txt", "UPPER", "lower.very.long." + "n" * 200, "#%&+{}"]
        for name in names:
            self.client(f'put file "{name}"')
        self.assertEqual(sorted(os.listdir(self.mounted)), sorted(names))
        told = self.client("ls")
        for name in names:
            self.assertIn(name, told)
        for name in names:
            self.client(f'del "{name}"')
        self.assertEqual(os.listdir(self.mounted), [])

    def test_directories(self):
        (self.local / "file").write_bytes(b"x")
        self.client("mkdir d", "mkdir d/e", "put file d/e/f", "rename d moved", "rename moved/e/f moved/g",
                    "rmdir moved/e")  # fmt: skip
        self.assertEqual(sorted(tree(self.mounted)), ["moved", "moved/g"])
        self.client("rmdir moved", fails=True)
        self.client("put file moved/h", "rename moved/h moved/g -f")
        self.client("deltree moved")
        self.assertEqual(os.listdir(self.mounted), [])

    def test_whole_trees(self):
        sources = self.local / "sources"
        sources.mkdir()
        make_sources(sources)
        for path in sources.rglob("*"):  # what SMB has no word for
            if path.is_symlink() or "\n" in path.name:
                path.unlink()
        self.client("recurse", "prompt", "mput sources")
        (self.local / "back").mkdir()
        self.client("recurse", "prompt", "lcd back", "mget sources")
        one, two, three = (tree(path / "sources", times=False, modes=False)
                           for path in (self.local, self.mounted, self.local / "back"))  # fmt: skip
        self.assertEqual(sorted(one), sorted(two))
        self.assertTrue(one == two == three)

    def test_what_another_node_would_change(self):
        (self.mounted / "f").write_bytes(b"one")
        self.client("get f f1")
        wait_for(lambda: self.node.get(f"/fs/{self.name}/f").body == b"one", START_S, "the first")
        check(self.node.put(f"{self.name}/f", b"two and more").status == 200, "put")
        wait_for(lambda: (self.mounted / "f").read_bytes() == b"two and more", START_S, "the change")
        self.client("get f f2")
        self.assertEqual((self.local / "f2").read_bytes(), b"two and more")
        check(self.node.put(f"{self.name}/g", b"new").status == 201, "put")
        wait_for((self.mounted / "g").exists, START_S, "the new file")
        self.assertIn(" g ", self.client("ls"))

    def test_attributes_and_times(self):
        (self.local / "f").write_bytes(b"x")
        self.client("put f", "setmode f +hr")
        self.assertRegex(self.client("allinfo f"), r"attributes: R?.*H")
        self.client("setmode f -hr", "utimes f -1 -1 2001:02:03-04:05:06 -1")
        self.assertEqual((self.mounted / "f").read_bytes(), b"x")
        self.assertLess((self.mounted / "f").stat().st_mtime, 1_000_000_000)

    def test_errors(self):
        self.client("get nothing", fails=True)
        self.client("rename nothing other", fails=True)
        self.client("mkdir d", "mkdir d", fails=True)
        (self.local / "f").write_bytes(b"x")
        self.client("put f nowhere/f", fails=True)
        told = self.client("put f ../../outside", "ls /etc", fails=True)
        self.assertFalse((self.mount.path.parent / "outside").exists(), told)


if __name__ == "__main__":
    unittest.main()
