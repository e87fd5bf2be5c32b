# SPDX-License-Identifier: Apache-2.0
"""The manual and the completion of shells tell all that --help tells, and work where they are used:
pages pass the tools that set them, and shells complete by the scripts."""

import contextlib
import functools
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

import harness
from harness import ARTEL, BUILD_DIR, check, environment, main, run, temp_dir
from node import Node


@functools.cache
def verbs():
    """Each verb of `artel --help` as its words, and each flag of its --help: (letter, name)."""
    found = {}
    group = ()
    for line in run("--help").out.decode().splitlines():
        head = re.search(r"`artel (\w+) VERB --data DIR`", line)
        verb = re.match(r"  (\w+) +\S", line)
        if head:
            group = (head[1],)
        elif verb:
            found[(*group, verb[1])] = flags_of((*group, verb[1]))
    check(len(found) > 15, "verbs are missing", found)
    return found


def flags_of(verb):
    text = run(*verb, "--help").out.decode()
    return re.findall(r"(?m)^  (?:-(\w), )?--([\w-]+) ", text)


def page(*arguments):
    result = run("help", "--man", *arguments)
    check(result.status == 0 and not result.err, "no page", result)
    return result.out.decode()


def script(shell):
    result = run("completion", shell)
    check(result.status == 0 and not result.err, "no script", result)
    return result.out.decode()


def tool(test, name):
    if not shutil.which(name):
        test.skipTest(f"there is no {name}")


class Manual(unittest.TestCase):
    def test_tells_all_that_help_tells(self):
        program = page()
        for verb, flags in verbs().items():
            with self.subTest(verb=verb):
                title = "-".join(("artel", *verb))
                self.assertIn(f"\\fB{title}\\fR(1)".replace("-", "\\-"), program)
                text = page(*verb)
                self.assertTrue(text.startswith(f".TH {title.upper()} 1 ".replace("-", "\\-")))
                self.assertTrue(flags or verb in [("completion",)], "no flags at all")
                for letter, name in flags:
                    brief = f"\\fB\\-{letter}\\fR, " if letter else ""
                    flag = f"\n.TP\n{brief}\\fB\\-\\-{name.replace('-', chr(92) + '-')}\\fR"
                    self.assertIn(flag, text)

    def test_pages_are_sound(self):
        """Every line is text or a macro of man(7), and fonts that are begun are ended."""
        for verb in [(), *verbs()]:
            for line in page(*verb).splitlines():
                self.assertRegex(line, r"^(\.(TH|SH|PP|TP)\b|[^.'])", verb)
                self.assertEqual(len(re.findall(r"\\f[BI]", line)), line.count("\\fR"), line)
                self.assertEqual(re.findall(r"\\(?!f[BIR]|-|e|&|\(aq|\(ti|\(ha)", line), [], line)

    def test_tools_have_nothing_to_say(self):
        tool(self, "groff")
        for verb in [(), *verbs()]:
            result = subprocess.run(
                ["groff", "-man", "-ww", "-Tutf8"],
                input=page(*verb).encode(), capture_output=True, timeout=60,
            )  # fmt: skip
            self.assertEqual((result.returncode, result.stderr), (0, b""), verb)
            shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", result.stdout.decode())
            self.assertNotIn("\\", shown)

    def test_mandoc_has_nothing_to_say(self):
        tool(self, "mandoc")
        for verb in [(), *verbs()]:
            result = subprocess.run(
                ["mandoc", "-Tlint", "-W", "warning"],
                input=page(*verb).encode(), capture_output=True, timeout=60,
            )  # fmt: skip
            lines = result.stdout.decode().splitlines()
            self.assertEqual([line for line in lines if "missing date" not in line], [], verb)

    def test_all_pages_at_once(self):
        with temp_dir() as root:
            self.assertEqual(run("help", "--man-pages", root).status, 0)
            expected = {"-".join(("artel", *verb)) + ".1": page(*verb) for verb in [(), *verbs()]}
            self.assertEqual({each.name: each.read_text() for each in root.iterdir()}, expected)
            self.assertEqual((root / "artel.1").stat().st_mode & 0o777, 0o644)
            missing = run("help", "--man-pages", root / "missing")
            self.assertEqual(missing.status, 1, missing)

    def test_a_page_of_no_verb(self):
        for arguments in (["nonsense"], ["store", "nonsense"], ["put", "x"]):
            result = run("help", "--man", *arguments)
            self.assertEqual((result.status, result.out), (2, b""), result)
        self.assertEqual(page("store"), page())

    def test_help_needs_no_sound_settings(self):
        env = {"ARTEL_JSON": "perhaps", "ARTEL_MAN": "perhaps", "ARTEL_CONFIG": "/nowhere"}
        self.assertEqual(run("help", "put", env=env).status, 0)
        self.assertEqual(run("completion", "bash", env=env).status, 0)


class Scripts(unittest.TestCase):
    """What every shell's script tells."""

    def test_no_such_shell(self):
        self.assertEqual(run("completion", "csh").status, 2)
        self.assertEqual(run("completion").status, 2)

    def test_bash_tells_all(self):
        text = script("bash")
        for verb, flags in verbs().items():
            part = re.search(rf"    '{' '.join(verb)}'\)\n        flags='(.*)'\n", text)
            expected = {f"--{name}" for _, name in flags} | {f"-{letter}" for letter, _ in flags}
            self.assertEqual(set(part[1].split()), (expected - {"-"}) | {"--help"}, verb)

    def test_zsh_tells_all(self):
        text = script("zsh")
        for verb, flags in verbs().items():
            part = text.split(f"    '{' '.join(verb)}')\n")[1].split(";;")[0]
            for letter, name in flags:
                begin = f"'--{name}=?"
                if letter:
                    begin = rf"'\(-{letter} --{name}\)'{{-{letter}\+?,--{name}=?}}"
                self.assertRegex(part, begin + r"'?\[", verb)

    def test_fish_tells_all(self):
        text = script("fish")
        for verb, flags in verbs().items():
            title = " ".join(verb)
            only = f"__artel_is_only{''.join(' ' + each for each in verb[:-1])}"
            self.assertIn(f"complete -c artel -n '{only}' -a {verb[-1]} ", text)
            for letter, name in flags:
                brief = f" -s {letter}" if letter else ""
                self.assertIn(f"complete -c artel -n '__artel_is {title}' -l {name}{brief} -", text)

    def test_shells_can_read_them(self):
        for shell, flags in (("bash", ["-n"]), ("zsh", ["-f", "-n"]), ("fish", ["-N", "-n"])):
            if not shutil.which(shell):
                continue
            with temp_dir() as root:
                (root / "script").write_text(script(shell))
                result = subprocess.run(
                    [shell, *flags, root / "script"], capture_output=True, timeout=60
                )
                self.assertEqual((result.returncode, result.stderr), (0, b""), shell)

    def test_fish_completes(self):
        tool(self, "fish")
        with temp_dir() as root:
            (root / "script").write_text(script("fish"))
            (root / "data").mkdir()

            def complete(line):
                command = f"source {root}/script; complete -C '{line}'"
                env = environment({"HOME": str(root), "PATH": f"{BUILD_DIR}:{os.environ['PATH']}"})
                result = subprocess.run(
                    ["fish", "-N", "-c", command],
                    capture_output=True, timeout=60, env=env, cwd=root,
                )  # fmt: skip
                return [each.split("\t")[0] for each in result.stdout.decode().splitlines()]

            self.assertEqual(complete("artel mkd"), ["mkdir"])
            self.assertEqual(complete("artel store scr"), ["scrub"])
            self.assertEqual(complete("artel put --no-cl"), ["--no-clobber"])
            self.assertEqual(complete("artel find --type sym"), ["symlink"])
            self.assertEqual(complete("artel store ls --data da"), ["data/"])
            self.assertEqual(complete("artel help store sta"), ["status"])


class Bash(unittest.TestCase):
    """The script in a real bash, with a real node."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.root = cls.stack.enter_context(temp_dir())
        (cls.root / "script").write_text(script("bash"))
        for name in ("some file", "some-other", "directory/inside"):
            path = cls.root / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        cls.node = cls.stack.enter_context(Node(cls.root / "data"))
        for path in ("top/one", "top/other name", "top/deep/x", "time:12", "root"):
            cls.node.put(path, b"x")
        cls.url = "http://{}:{}".format(*cls.node.address)

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def env(self, node=True):
        """Without a node, one that is not there is asked for paths."""
        return environment(
            {
                "ARTEL_NODE": self.url if node else "http://127.0.0.1:1",
                "PATH": f"{BUILD_DIR}:{os.environ['PATH']}",
                "PS1": "$ ",
                "TERM": "dumb",
            }
        )

    def complete(self, *words, node=True):
        """What bash is answered for the last of the words."""
        code = (
            'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
            '_artel "$1" "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        command = ["bash", "--norc", "--noprofile", "-c", code, "bash", self.root / "script", *words]
        result = subprocess.run(
            command, capture_output=True, timeout=60, env=self.env(node), cwd=self.root / "files"
        )
        self.assertEqual(result.stderr, b"")
        return sorted(filter(None, result.stdout.decode().splitlines()))

    def test_verbs(self):
        top = {verb[0] for verb in verbs()}
        self.assertEqual(self.complete("artel", ""), sorted(top | {"--help", "--version"}))
        self.assertEqual(self.complete("artel", "mk"), ["mkdir"])
        store = [verb[1] for verb in verbs() if verb[0] == "store"]
        self.assertEqual(self.complete("artel", "store", ""), sorted([*store, "--help"]))
        self.assertEqual(self.complete("artel", "help", "store", "st"), ["status"])
        self.assertEqual(self.complete("artel", "help", "comp"), ["completion"])
        self.assertEqual(self.complete("artel", "completion", ""), ["bash", "fish", "zsh"])
        self.assertEqual(self.complete("artel", "nonsense", ""), [])

    def test_every_flag(self):
        for verb, flags in verbs().items():
            expected = {f"--{name}" for _, name in flags} | {"--help"}
            self.assertEqual(self.complete("artel", *verb, "--"), sorted(expected))
            for letter, name in flags:
                self.assertIn(f"--{name}", self.complete("artel", *verb, f"--{name}"))
                if letter:
                    self.assertIn(f"-{letter}", self.complete("artel", *verb, "-"))

    def test_values(self):
        self.assertEqual(self.complete("artel", "find", "--type", "f"), ["file"])
        self.assertEqual(
            self.complete("artel", "put", "--log-level", ""),
            ["debug", "error", "info", "off", "warn"],
        )
        # bash cuts at '=', and takes the answer for what is behind it.
        self.assertEqual(self.complete("artel", "put", "--log-level", "=", "w"), ["warn"])
        self.assertEqual(self.complete("artel", "put", "--log-level", "="), sorted(
            ["debug", "error", "info", "off", "warn"]
        ))  # fmt: skip
        self.assertEqual(self.complete("artel", "node", "--data", ""), ["directory"])
        self.assertEqual(self.complete("artel", "node", "--config", "some-"), ["some-other"])
        self.assertEqual(self.complete("artel", "log", "-n", ""), [])
        # The value of a flag is no argument: the one behind it is the first.
        self.assertEqual(self.complete("artel", "put", "-m", "0644", "dir"), ["directory"])

    def test_files(self):
        self.assertEqual(self.complete("artel", "put", "some"), ["some file", "some-other"])
        self.assertEqual(self.complete("artel", "store", "put", "directory/"), ["directory/inside"])
        self.assertEqual(self.complete("artel", "get", "top/one", "dir"), ["directory"])
        self.assertEqual(self.complete("artel", "status", "some"), [])
        (self.root / "files" / "-odd").write_bytes(b"x")
        self.addCleanup((self.root / "files" / "-odd").unlink)
        self.assertEqual(self.complete("artel", "put", "--", "-o"), ["-odd"])

    def test_paths(self):
        self.assertEqual(self.complete("artel", "ls", ""), ["root", "time:12", "top/"])
        self.assertEqual(self.complete("artel", "get", "top/o"), ["top/one", "top/other name"])
        self.assertEqual(self.complete("artel", "get", "top/other\\ "), ["top/other name"])
        self.assertEqual(self.complete("artel", "rm", "root", "top/de"), ["top/deep/"])
        self.assertEqual(self.complete("artel", "put", "some-other", "to"), ["top/"])
        self.assertEqual(self.complete("artel", "ls", "time", ":", "1"), ["12"])
        self.assertEqual(self.complete("artel", "ls", "nowhere/"), [])

    def test_the_node_of_the_command_line(self):
        self.assertEqual(self.complete("artel", "ls", "ro", node=False), [])
        host, port = self.node.address
        url = ["http", ":", f"//{host}", ":", str(port)]
        for words in (["--node", *url], ["--node", "=", *url]):
            self.assertEqual(self.complete("artel", "ls", *words, "ro", node=False), ["root"])

    def test_as_it_is_typed(self):
        """In an interactive bash, which cuts the words itself and quotes what it puts in."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.root / "files")
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], self.env())
        self.addCleanup(os.close, terminal)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.read_until(terminal, "$ ")
        os.write(terminal, b"bind 'set enable-bracketed-paste off'; source ../script; echo re''ady\n")
        self.read_until(terminal, "ready\r\n$ ")
        for typed, completed in (
            ("artel mkd\t", "artel mkdir "),
            ("artel get top/oth\t", "artel get top/other\\ name "),
            ("artel ls top/dee\tx", "artel ls top/deep/x"),
            ("artel ls time:\t", "artel ls time:12 "),
            ("artel put --log-level=wa\t", "artel put --log-level=warn "),
            (f"artel ls --node {self.url} roo\t", f"artel ls --node {self.url} root "),
            ("artel put some-\troo\t", "artel put some-other root "),
        ):
            os.write(terminal, typed.encode() + b"|")
            self.assertIn(completed + "|", self.read_until(terminal, "|"))
            os.write(terminal, b"\x15")  # forget the line

    def read_until(self, terminal, text):
        seen = ""
        deadline = time.monotonic() + harness.RUN_TIMEOUT_S
        while not seen.endswith(text):
            check(time.monotonic() < deadline, f"no {text!r} but {seen!r}")
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536).decode()
        return seen.replace("\x07", "")


class Install(unittest.TestCase):
    def test_everything_has_its_place(self):
        if not shutil.which("cmake") or harness.BUILD not in ("release", "debug"):
            self.skipTest("only what users get is installed")
        with temp_dir() as root:
            command = ["cmake", "--install", BUILD_DIR, "--prefix", root]
            result = subprocess.run(command, capture_output=True, timeout=120)
            self.assertEqual(result.returncode, 0, result.stderr)
            found = {str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()}
            pages = {"-".join(("artel", *verb)) for verb in [(), *verbs()]}
            self.assertEqual(
                found,
                {f"share/man/man1/{each}.1" for each in pages}
                | {
                    "bin/artel",
                    "share/bash-completion/completions/artel",
                    "share/zsh/site-functions/_artel",
                    "share/fish/vendor_completions.d/artel.fish",
                },
            )
            installed = root / "share" / "bash-completion" / "completions" / "artel"
            self.assertEqual(installed.read_text(), script("bash"))
            self.assertEqual(
                pathlib.Path(root / "share/man/man1/artel-put.1").read_text(), page("put")
            )
            version = subprocess.run([root / "bin" / "artel", "--version"], capture_output=True)
            self.assertEqual(version.stdout, run("--version").out)


if __name__ == "__main__":
    main()
