# SPDX-License-Identifier: Apache-2.0
"""Whether a mount is the file system that programs expect: the checks of posix_checks/, on a mount and, as
their own proof, on a local directory.

ARTEL_POSIX_DIR names a directory to run them on instead, whatever is mounted there.
"""

import contextlib
import os
import shutil
import tempfile
import unittest

import harness
import mount
import posix_checks
from node import Node

GIVEN = os.environ.get("ARTEL_POSIX_DIR")


class Local(unittest.TestCase):
    is_artel = False

    def new_root(self):
        root = harness.temp_dir()
        self.addCleanup(root.__exit__, None, None, None)
        return root.__enter__()


class Given(unittest.TestCase):
    is_artel = False

    def new_root(self):
        root = tempfile.mkdtemp(prefix="artel-test-", dir=GIVEN)
        self.addCleanup(shutil.rmtree, root, ignore_errors=True)
        return root


class Mounted(unittest.TestCase):
    """One node and one mount for all."""

    is_artel = True
    stack = None

    def new_root(self):
        if not Mounted.stack:
            self.skipTest(mount.missing() or "no mount")
        return tempfile.mkdtemp(dir=Mounted.mount.path)

    def tearDown(self):
        super().tearDown()
        if Mounted.stack:
            self.assertIsNone(Mounted.mount.process.poll(), "the mount has ended")


def setUpModule():
    if GIVEN or mount.need():
        return
    stack = contextlib.ExitStack()
    root = stack.enter_context(harness.temp_dir())
    node = stack.enter_context(Node(root / "data", "--scrub-rate", "0"))
    Mounted.mount = stack.enter_context(mount.Mount(node, root / "mount"))
    Mounted.stack = stack


def tearDownModule():
    if Mounted.stack:
        Mounted.stack.close()


for place in (Given,) if GIVEN else (Local, Mounted):
    globals().update(posix_checks.in_place(place))

if __name__ == "__main__":
    unittest.main()
