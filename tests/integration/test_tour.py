# SPDX-License-Identifier: Apache-2.0
"""The tour of README.md, its commands as they are printed, in a shell; and `./dev run`.

Both use fixed addresses, so they run in a network namespace of their own. That needs root, or user
namespaces.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import unittest
import urllib.request

import harness
from harness import ARTEL, check, temp_dir, wait_for
from test_network import INSIDE, enter_namespace, ip

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WITHIN_S = 300 if harness.SANITIZED else 90


def tour():
    """The commands, in blocks."""
    text = (ROOT / "README.md").read_text()
    part = text[text.index("## A tour") : text.index("## Read on")]
    return [block.strip().splitlines() for block in re.findall(r"(?s)```\n(.*?)```", part)]


class Shell:
    """A shell that is typed at; a line is sent when the one before is done."""

    def __init__(self, directory):
        environment = harness.environment({
            "HOME": str(directory), "PATH": f"{ARTEL.parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        })
        self.seen = ""
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=directory, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=1)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.send("set -m")

    def read(self):
        for line in self.process.stdout:
            self.seen += line

    def wait(self, pattern, begin):
        return wait_for(lambda: re.search(pattern, self.seen[begin:]), WITHIN_S,
                        f"{pattern!r} in\n{self.seen[-3000:]}")

    def send(self, line):
        """Its status and its output."""
        begin = len(self.seen)
        self.process.stdin.write(f"{line}\necho \"@done $?\"\n")
        self.process.stdin.flush()
        found = self.wait(r"@done (\d+)\n", begin)
        if line.split("#")[0].rstrip().endswith("&") and re.match("artel (node|mount)", line):
            self.wait(r"(?m)^ready ", begin)
        return int(found[1]), self.seen[begin:begin + found.start()]

    def close(self):
        self.process.stdin.close()
        with self.process:
            self.process.kill()
        self.reader.join(10)


class Tour(unittest.TestCase):
    def test_its_commands_as_printed(self):
        outputs = {}
        with temp_dir() as directory:
            shell = Shell(directory)
            try:
                for line in [line for block in tour() for line in block]:
                    if " tree" in line and not os.access("/dev/fuse", os.W_OK):
                        print(f"SKIPPED: {line}: no FUSE here")
                        continue
                    self.wait_as_people_do(line, pathlib.Path(directory))
                    status, output = shell.send(line)
                    self.assertEqual(status, 0, f"{line}\n{output}\n{shell.seen[-3000:]}")
                    outputs.setdefault(line.split("#")[0].strip(), output)
                    if line.startswith("artel watch"):
                        self.wait_watcher()
                shell.send("wait")
                text = shell.seen
            finally:
                for pid in shell.send("jobs -p")[1].split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                shell.close()
        self.assertNotRegex(text, harness.SANITIZER_TEXT)
        self.assertRegex(text, r"(?m)^atomic .*releases/1\.0$")  # the watcher at b
        self.assertRegex(text, r"(?m)^atomic releases/1\.1$")  # the command of the follower
        members = outputs["artel members"]
        for name, zone in (("a", "one"), ("b", "two"), ("c", "three")):
            self.assertRegex(members, rf"(?m)^[ *] {name} +{zone} .* alive ")
        where = outputs["artel where releases/1.0/part-1"]
        self.assertEqual(set(re.findall(r"(?m)^  complete +(\w)", where)), {"a", "c"})
        [why] = [output for line, output in outputs.items() if line.startswith("artel why")]
        self.assertRegex(why, r"(?m)^  a +one ")
        self.assertEqual(outputs["artel get notes/old.txt -"], "one\n")
        curl = "curl -s http://127.0.0.3:7420/fs/notes/by-curl.txt"
        self.assertEqual(outputs[curl], "one\n")
        [total] = [output for line, output in outputs.items() if "sha256sum" in line]
        put = next(output for line, output in outputs.items() if line.startswith("curl -sT"))
        self.assertEqual(total.split()[0], json.loads(put)["id"])

    def ask(self, url):
        with urllib.request.urlopen(url) as answer:
            return answer.read()

    def wait_watcher(self):
        wait_for(lambda: re.search(rb"(?m)^artel_watchers 1$",
                                   self.ask("http://127.0.0.2:7420/metrics")),
                 WITHIN_S, "somebody watches")

    def wait_as_people_do(self, line, directory):
        """Who types is slower than nodes that hear of each other and of who has what."""
        def alive():
            members = json.loads(self.ask("http://127.0.0.1:7420/members"))
            return sum(member["state"] == "alive" for member in members) == 3

        def held():
            found = json.loads(self.ask("http://127.0.0.1:7420/where/releases/1.0/part-1"))
            return sum(holder["state"] == "complete" for holder in found["holders"]) == 2

        if line.startswith("artel members"):
            wait_for(alive, WITHIN_S, "three are alive")
        elif line.startswith("artel where"):
            wait_for(held, WITHIN_S, "two have it")
        elif " arrived/releases/1.1" in line:
            wait_for((directory / "arrived/releases/1.1").exists, WITHIN_S, "it arrived")


class Demo(unittest.TestCase):
    def test_it_shows_what_it_says_and_leaves_nothing(self):
        with temp_dir() as directory:
            environment = harness.environment({"TMPDIR": str(directory), "ARTEL_DEMO_MIB": "32"})
            process = subprocess.Popen(
                [ROOT / "tools" / "demo.sh", ARTEL], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                seen = ""
                for line in process.stdout:
                    seen += line
                    if line.startswith("The nodes stay up until Ctrl-C"):
                        break
                check("The nodes stay up until Ctrl-C" in seen, "it ended", seen)
                os.killpg(process.pid, signal.SIGINT)
                rest = process.communicate(timeout=WITHIN_S)[0]
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self.assertEqual(process.returncode, 130, seen + rest)
            self.assertEqual(os.listdir(directory), [])
        self.assertRegex(seen, r"(?m)^  atomic .*index$")
        self.assertEqual(seen.count("  the same\n"), 2)
        self.assertRegex(seen, r"(?m)^[ *] a +zone-1 .* unreachable ")
        self.assertRegex(seen, r"(?m)^  c +zone-3 ")  # whom b had it from


def main():
    if INSIDE not in os.environ:
        enter_namespace()
        print("SKIPPED: neither root nor user namespaces here")
        return
    ip("link", "set", "lo", "up")
    harness.main()


if __name__ == "__main__":
    main()
