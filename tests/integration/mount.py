# SPDX-License-Identifier: Apache-2.0
"""A mount of a node's tree, for tests."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import harness
from harness import check, wait_for

START_S = 60 if harness.SANITIZED else 20


def missing():
    """Why nothing can be mounted here; "" if it can."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return "" if shutil.which("fusermount3") else "no fusermount3 (Debian package fuse3)"


def need(*programs):
    """Why a test can't run here, "" if it can; says so on standard error, too."""
    lacking = [program for program in programs if not shutil.which(program)]
    why = missing() or (f"not installed: {', '.join(lacking)}" if lacking else "")
    if why:
        print(f"SKIPPED: {why}", file=sys.stderr, flush=True)
    return why


class Mount:
    """`artel mount DIR` of a node."""

    def __init__(self, node, directory, *options):
        self.node, self.options = node, options
        self.path = pathlib.Path(directory)
        self.process = None
        self.log = b""

    def start(self):
        self.path.mkdir(exist_ok=True)
        self.process = self.begin("mount", "--data", self.node.data, *self.options, self.path)
        self.log = b""
        self._readers = [threading.Thread(target=self._read, args=(stream,), daemon=True)
                         for stream in (self.process.stdout, self.process.stderr)]
        for reader in self._readers:
            reader.start()
        try:
            wait_for(lambda: b"ready " in self.log or self.process.poll() is not None, START_S,
                     "a mount")  # fmt: skip
            check(self.is_mounted(), "it does not mount", self.log.decode(errors="replace"))
        except BaseException:
            self.kill()
            raise
        return self

    def begin(self, *words):
        return harness.start(*words)

    def _read(self, stream):
        while piece := os.read(stream.fileno(), 65536):
            self.log = (self.log + piece)[-1000000:]

    def is_mounted(self):
        # Asks the kernel, not the mount: that one may hang.
        text = pathlib.Path("/proc/self/mountinfo").read_text()
        return any(line.split()[4] == str(self.path) for line in text.splitlines())

    def end(self, within_s=None):
        """Waits until it has ended; gives the exit status."""
        status = self.process.wait(within_s or START_S)
        for reader in self._readers:
            reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()
        self.process = None
        text = self.log.decode(errors="replace")
        found = status == harness.SANITIZER_STATUS or harness.re.search(harness.SANITIZER_TEXT, text)
        check(not found, "a sanitizer found something", text)
        return status

    def unmount(self):
        """As a person does it; gives the exit status of the mount."""
        subprocess.run(["fusermount3", "-u", self.path], check=True, timeout=START_S)
        return self.end()

    def stop(self):
        """SIGTERM: it must unmount and end cleanly."""
        self.process.send_signal(signal.SIGTERM)
        status = self.end()
        check(status == 0, f"status {status} after SIGTERM", self.log.decode(errors="replace"))
        check(not self.is_mounted(), "still mounted after SIGTERM")

    def kill(self):
        """SIGKILL; what is left of the mount goes."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            with contextlib.suppress(Exception):
                self.end()
        if self.is_mounted():
            subprocess.run(["umount", "-l", self.path], timeout=START_S,
                           stderr=subprocess.DEVNULL)  # fmt: skip

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind or not self.process:
            self.kill()
        else:
            self.stop()
