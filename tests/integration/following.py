# SPDX-License-Identifier: Apache-2.0
"""A follower that runs, and what stands in its directory."""

import contextlib
import json
import os
import pathlib
import signal
import threading

import harness
from harness import check, wait_for
from test_members import Nodes
from trees import SOON_S, listing

OWN = (".artel", ".artel-follow")


class Follower:
    """`artel follow`, and what it says."""

    def __init__(self, test, node, pattern, dir_path, *options, command=None):
        self.test, self.dir = test, pathlib.Path(dir_path)
        self.arguments = ["follow", pattern, "--to", str(self.dir), "--json", "--node", node.url]
        self.arguments += options
        if command:
            self.arguments += ["--exec", command]
        self.process = None
        test.stack.callback(self.kill)

    def start(self, fault=None):
        self.told, self.state = [], {}
        begin = fault.start if fault else harness.start
        self.process = begin(*self.arguments, cwd=self.test.root)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        return self

    def _read(self, process):
        for line in process.stdout:
            told = json.loads(line)
            if told["event"] == "state":
                self.state = told
            else:
                self.told.append(told)

    def has_told(self, event, path):
        return any((told["event"], told.get("path")) == (event, path) for told in self.told)

    def _end(self, number):
        process, self.process = self.process, None
        process.send_signal(number)
        status = process.wait(harness.RUN_TIMEOUT_S)
        self._reader.join(10)
        text = process.stderr.read().decode(errors="replace")
        process.stdout.close()
        process.stderr.close()
        check(status != harness.SANITIZER_STATUS, "a sanitizer found something", text)
        return status

    def kill(self):
        if self.process:
            self._end(signal.SIGKILL)

    def stop(self):
        self.test.assertEqual(self._end(signal.SIGTERM), 0)


def seen(directory, below=""):
    """{path: bytes of a file, "-> target" of a link, None of a directory}; directories that are
    switched look like any other. What goes while it is looked at is not there."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {}
    for name in names:
        path, place = below + name, pathlib.Path(directory) / name
        if name in OWN:
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if place.is_symlink() and not os.readlink(place).startswith(".artel/"):
                found[path] = f"-> {os.readlink(place)}"
            elif place.is_dir():
                found[path] = None
                found |= seen(place, f"{path}/")
            else:
                found[path] = place.read_bytes()
    return found


def of_tree(node, top=""):
    """The same of what the node has at `top` and below it."""
    found = {}
    for path, entry in listing(node).items():
        if top and path != top and not path.startswith(f"{top}/"):
            continue
        if entry["type"] == "file":
            found[path] = node.get(f"/fs/{path}").body
        else:
            found[path] = f"-> {entry['target']}" if entry["type"] == "symlink" else None
    return found


class Following(Nodes):
    def setUp(self):
        super().setUp()
        self.node = self.new().start()
        self.dir = self.root / "to"

    def follow(self, pattern="a", *options, **more):
        return Follower(self, self.node, pattern, self.dir, *options, **more).start()

    def wait_equal(self, top="a", node=None):
        def is_equal():
            try:
                return seen(self.dir) == of_tree(node or self.node, top)
            except OSError:
                return False  # it changes underneath

        try:
            wait_for(is_equal, SOON_S, "the directory is what the tree is")
        except harness.Failure:
            here, there = seen(self.dir), of_tree(node or self.node, top)
            different = {path for path in here.keys() | there.keys()
                         if here.get(path, 0) != there.get(path, 0)}
            raise harness.Failure(f"different: {sorted(different)[:20]}") from None

    def rename(self, old, new):
        answer = self.node.post(old, {"op": "rename", "to": new})
        check(answer.status == 200, "rename", answer)

    def delete(self, path, query=""):
        answer = self.node.delete(path, query)
        check(answer.status == 200, "delete", answer)

    def hook(self):
        """A command that writes a line for each run, and what it wrote."""
        log = self.root / "log"
        command = f'echo "$ARTEL_EVENT $ARTEL_FROM $ARTEL_PATH" >> {log}'

        def done():
            return log.read_text().splitlines() if log.exists() else []

        return command, done
