# SPDX-License-Identifier: Apache-2.0
"""tools/check-includes finds each kind of include that breaks the order of the modules."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check-includes"


class CheckIncludes(unittest.TestCase):
    def check(self, files):
        """Runs the script over a tree of {path below src: text}; its exit status and lines."""
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                file = Path(root, "src", path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            done = subprocess.run([sys.executable, "-B", SCRIPT, root], capture_output=True,
                                  text=True, check=False)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout.splitlines()

    def assert_clean(self, files):
        self.assertEqual(self.check(files), (0, []))

    def assert_fault(self, path, include, place_and_text):
        """An include on line 2 of `path` is the one fault of a tree."""
        status, lines = self.check({path: f"/* first */\n#include {include}\n"})
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(f"src/{path}:2: "), lines[0])
        self.assertIn(place_and_text, lines[0])

    def test_down_and_own_headers_are_fine(self):
        self.assert_clean({
            "base/map.h": "#include <uthash.h>\n",
            "base/list.h": "#include <utlist.h>\n",
            "base/buf.c": '#include "base/buf.h"\n#include "base/buf_priv.h"\n',
            "store/store.c": '#include <lmdb.h>\n#include "kv/kv.h"\n#include "base/buf.h"\n'
                             '#include "store/segment_priv.h"\n',
            "cli/main.c": '#include "node/node.h"\n#include "sim/scenario.h"\n',
            "sim/sim.c": '#include "node/node.h"\n#include "transfer/transfer.h"\n',
        })

    def test_up(self):
        self.assert_fault("kv/kv.c", '"store/store.h"', "points up")
        self.assert_fault("base/buf.c", '"hash/id.h"', "points up")
        self.assert_fault("store/deep/file.c", '"cluster/cluster.h"', "points up")

    def test_sideways(self):
        self.assert_fault("hash/id.h", '"chunk/chunk.h"', "points sideways")
        self.assert_fault("tree/tree.c", '"locate/locate.h"', "points sideways")
        self.assert_fault("cli/main.c", '"daemon/daemon.h"', "points sideways")

    def test_private_headers_of_others(self):
        self.assert_fault("store/store.c", '"kv/lmdb_priv.h"', "private to kv")

    def test_wrapped_headers(self):
        self.assert_fault("store/store.c", "<uthash.h>", "base/map.h")
        self.assert_fault("store/store.c", '"utlist.h"', "base/list.h")

    def test_relative(self):
        self.assert_fault("store/store.c", '"segment.h"', "is relative")
        self.assert_fault("store/store.c", '"../kv/kv.h"', "is relative")
        self.assert_fault("store/store.c", '"kv/../kv/kv.h"', "is relative")

    def test_angle_brackets_do_not_hide_a_module(self):
        self.assert_fault("kv/kv.c", "<store/store.h>", "use")

    def test_spaces_do_not_hide_an_include(self):
        status, lines = self.check({"kv/kv.c": '  #  include   "store/store.h"\n'})
        self.assertEqual(status, 1)
        self.assertIn("src/kv/kv.c:1: ", lines[0])

    def test_simulator(self):
        self.assert_fault("sim/sim.c", '"daemon/daemon.h"', "points sideways")
        self.assert_fault("node/node.c", '"sim/sim.h"', "may not include sim")
        self.assert_fault("daemon/main.c", '"sim/sim.h"', "may not include sim")
        self.assert_fault("cli/verb_sim.c", '"sim/world_priv.h"', "private to sim")

    def test_unknown_modules(self):
        self.assert_fault("store/store.c", '"stroe/store.h"', "no module stroe")
        status, lines = self.check({"extra/extra.c": ""})
        self.assertEqual(status, 1)
        self.assertIn("no module extra", lines[0])

    def test_every_fault_is_told(self):
        status, lines = self.check({
            "kv/kv.c": '#include "store/store.h"\n#include "wire/wire.h"\n',
            "hash/id.c": '#include "id.h"\n',
        })
        self.assertEqual(status, 1)
        self.assertEqual([line.split(" ")[0] for line in lines],
                         ["src/hash/id.c:1:", "src/kv/kv.c:1:", "src/kv/kv.c:2:"])

    def test_wrong_root_is_not_taken_for_a_clean_tree(self):
        with tempfile.TemporaryDirectory() as root:
            done = subprocess.run([sys.executable, "-B", SCRIPT, root], capture_output=True,
                                  text=True, check=False)
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
