# SPDX-License-Identifier: Apache-2.0
"""Programs that people use, on a mount: what they leave there is what they leave in a local directory."""

import contextlib
import os
import shutil
import stat
import subprocess
import time
import unittest

import harness
import mount
from harness import KIB, MIB, content
from node import Node, quote

LONG_S = 600 if harness.SANITIZED else 120
MOMENT = 1_700_000_000
MAKEFILE = """\
sum: main.o add.o
\tcc -o $@ main.o add.o
%.o: %.c add.h
\tcc -O1 -c -o $@ $<
clean:
\trm -f sum *.o
"""
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
       "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
       "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
       "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z"}  # fmt: skip


def run(*words, cwd=None, status=0, data=None):
    """Runs a program; gives what it printed."""
    result = subprocess.run([*map(str, words)], cwd=cwd, input=data, capture_output=True,
                            timeout=LONG_S, env=os.environ | GIT | {"LC_ALL": "C"})  # fmt: skip
    told = (result.stdout + result.stderr).decode(errors="replace")
    harness.check(result.returncode == status, f"{words}: status {result.returncode}", told)
    return result.stdout.decode(errors="replace")


def make_sources(top):
    """Some of everything that a directory can hold, old and new."""
    for number in range(4):
        directory = top / f"d{number}" / "deep"
        directory.mkdir(parents=True)
        for each in range(10):
            size = (0, 1, 100, 4096, 70000, 300 * KIB)[each % 6]
            path = directory / f"f{each}"
            path.write_bytes(content((number, each), size))
            path.chmod((0o644, 0o755, 0o600, 0o444)[each % 4])
    (top / "empty").mkdir(mode=0o750)
    (top / "a name\nwith \u00e4 'all'").write_bytes(b"odd")
    (top / "link").symlink_to("d0/deep/f3")
    (top / "dangling").symlink_to("/no/such place")
    (top / "directory").symlink_to("d1")
    (top / "large").write_bytes(content("large", 5 * MIB + 3))
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, ns=(0, (MOMENT + number) * 10**9 + 123456789), follow_symlinks=False)


def tree(top, times=True, modes=True):
    """{path: what it is, with content}"""
    found = {}
    for path in sorted(top.rglob("*")):
        state = path.lstat()
        what = [stat.S_IFMT(state.st_mode)]
        if path.is_symlink():
            what.append(os.readlink(path))
        else:
            what += [stat.S_IMODE(state.st_mode)] if modes else []
            what += [state.st_mtime_ns] if times else []
            what += [state.st_size, path.read_bytes()] if path.is_file() else []
        found[str(path.relative_to(top))] = what
    return found


class Tools(unittest.TestCase):
    """`self.local` and `self.mounted` are directories for the same work."""

    stack = None

    @classmethod
    def setUpClass(cls):
        why = mount.need()
        if why:
            raise unittest.SkipTest(why)
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.root = cls.stack.enter_context(harness.temp_dir())
        cls.node = cls.stack.enter_context(Node(cls.root / "data", "--scrub-rate", "0"))
        cls.mount = cls.stack.enter_context(mount.Mount(cls.node, cls.root / "mount"))

    def setUp(self):
        name = self.id().rsplit(".", 1)[1]
        self.local = self.root / "local" / name
        self.mounted = self.mount.path / name
        self.local.mkdir(parents=True)
        self.mounted.mkdir()

    def need(self, *programs):
        why = mount.need(*programs)
        if why:
            self.skipTest(why)

    def assert_same(self, one, two, **options):
        one, two = tree(one, **options), tree(two, **options)
        self.assertEqual(sorted(one), sorted(two))
        for path, what in one.items():
            if what != two[path]:
                self.fail(f"{path}: {str(what)[:100]}, {str(two[path])[:100]}")

    def sources(self):
        top = self.local / "sources"
        top.mkdir()
        make_sources(top)
        return top

    def test_cp(self):
        sources = self.sources()
        run("cp", "-a", sources, self.mounted / "there")
        self.assert_same(sources, self.mounted / "there")
        run("cp", "-a", self.mounted / "there", self.mounted / "again")
        run("cp", "-a", self.mounted / "again", self.local / "back")
        self.assert_same(sources, self.local / "back")
        run("diff", "-r", "--no-dereference", sources, self.mounted / "there")

    def test_mv_from_and_to_another_file_system(self):
        sources = self.sources()
        expected = tree(sources)
        run("mv", sources, self.mounted / "moved")
        self.assertEqual(tree(self.mounted / "moved"), expected)
        run("mv", self.mounted / "moved", self.local / "back")
        self.assertEqual(tree(self.local / "back"), expected)
        self.assertEqual(os.listdir(self.mounted), [])

    def test_rsync(self):
        self.need("rsync")
        sources = self.sources()
        run("rsync", "-a", f"{sources}/", f"{self.mounted}/")
        self.assert_same(sources, self.mounted)
        self.assertEqual(run("rsync", "-ai", f"{sources}/", f"{self.mounted}/"), "")
        # Changes in the middle of a large file, with rsync's own way of saving and in place.
        for number, option in enumerate(("--no-whole-file", "--inplace")):
            with open(sources / "large", "r+b") as file:
                file.seek(2 * MIB)
                file.write(option.encode())
            (sources / "d0/deep/f1").unlink(missing_ok=True)
            for each in ("large", "d0/deep"):  # rsync looks at seconds alone
                os.utime(sources / each, (0, MOMENT - number))
            run("rsync", "-a", "--delete", "--no-whole-file", option, f"{sources}/",
                f"{self.mounted}/")  # fmt: skip
            self.assert_same(sources, self.mounted)
        run("rsync", "-a", f"{self.mounted}/", self.local / "back")
        self.assert_same(sources, self.local / "back")
        self.assertEqual(run("rsync", "-aicn", f"{sources}/", f"{self.mounted}/"), "")

    def test_tar(self):
        sources = self.sources()
        run("tar", "-C", sources, "--format=posix", "-cf", self.mounted / "all.tar", ".")
        (self.mounted / "out").mkdir()
        run("tar", "-C", self.mounted / "out", "-xpf", self.mounted / "all.tar")
        self.assert_same(sources, self.mounted / "out")
        run("tar", "-C", self.mounted / "out", "--format=posix", "-czf", self.mounted / "all.tgz", ".")
        (self.local / "out").mkdir()
        run("tar", "-C", self.local / "out", "-xpzf", self.mounted / "all.tgz")
        self.assert_same(sources, self.local / "out")

    def repository(self):
        top = self.local / "origin"
        top.mkdir()
        run("git", "init", "-q", "-b", "main", cwd=top)
        for number in range(30):
            path = top / f"d{number % 5}" / f"f{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content(number, 3000))
            if number % 10 == 9:
                run("git", "add", ".", cwd=top)
                run("git", "commit", "-qm", f"commit {number}", cwd=top)
        (top / "link").symlink_to("d0/f0")
        (top / "tool").write_text("#!/bin/sh\n")
        (top / "tool").chmod(0o755)
        run("git", "add", ".", cwd=top)
        run("git", "commit", "-qm", "last", cwd=top)
        return top

    def test_git(self):
        self.need("git")
        origin = self.repository()
        for place in (self.local, self.mounted):
            clone = place / "clone"
            run("git", "clone", "-q", origin, clone)
            self.assertEqual(run("git", "status", "--porcelain", cwd=clone), "")
            run("git", "checkout", "-qb", "work", cwd=clone)
            (clone / "d0/f0").write_bytes(b"changed")
            (clone / "new").write_bytes(b"new")
            (clone / "d1/f1").unlink()
            self.assertEqual(run("git", "status", "--porcelain", cwd=clone).splitlines(),
                             [" M d0/f0", " D d1/f1", "?? new"])  # fmt: skip
            run("git", "add", "-A", cwd=clone)
            run("git", "commit", "-qm", "work", cwd=clone)
            run("git", "checkout", "-q", "main", cwd=clone)
            run("git", "merge", "-q", "--no-ff", "-m", "merge", "work", cwd=clone)
            run("git", "rebase", "-q", "HEAD~1", cwd=clone)
            run("git", "tag", "v1", cwd=clone)
            run("git", "stash", cwd=clone)
            run("git", "gc", "-q", "--prune=now", cwd=clone)
            run("git", "fsck", "--full", "--strict", cwd=clone)
            self.assertEqual(run("git", "status", "--porcelain", cwd=clone), "")
        one, two = ({path: what for path, what in tree(place / "clone", times=False).items()
                     if not path.startswith(".git")} for place in (self.local, self.mounted))  # fmt: skip
        self.assertEqual(one, two)
        heads = [run("git", "rev-parse", "HEAD^{tree}", cwd=place / "clone")
                 for place in (self.local, self.mounted)]  # fmt: skip
        self.assertEqual(*heads)

    def test_git_from_the_mount(self):
        """A bare repository there takes pushes, as one on a share does."""
        self.need("git")
        origin = self.repository()
        run("git", "init", "-q", "--bare", "-b", "main", self.mounted / "bare")
        run("git", "push", "-q", self.mounted / "bare", "main", cwd=origin)
        run("git", "clone", "-q", self.mounted / "bare", self.local / "clone")
        (self.local / "clone/more").write_bytes(b"more")
        run("git", "add", ".", cwd=self.local / "clone")
        run("git", "commit", "-qm", "more", cwd=self.local / "clone")
        run("git", "push", "-q", cwd=self.local / "clone")
        run("git", "pull", "-q", self.mounted / "bare", "main", cwd=origin)
        self.assertEqual((origin / "more").read_bytes(), b"more")
        run("git", "fsck", "--full", cwd=self.mounted / "bare")

    def test_make(self):
        self.need("make", "cc")
        for place in (self.local, self.mounted):
            (place / "Makefile").write_text(MAKEFILE)
            (place / "add.h").write_text("int add(int a, int b);\n")
            (place / "add.c").write_text('#include "add.h"\nint add(int a, int b) { return a + b; }\n')
            (place / "main.c").write_text('#include <stdio.h>\n#include "add.h"\n'
                                          'int main(void) { printf("%d", add(2, 3)); }\n')  # fmt: skip
            run("make", "-j2", cwd=place)
            self.assertEqual(run(place / "sum"), "5")
            self.assertIn("up to date", run("make", cwd=place))
            before = (place / "add.o").stat().st_mtime_ns
            (place / "add.c").write_text('#include "add.h"\nint add(int a, int b) { return a * b; }\n')
            # Clocks of files may be coarse; what is newer by less than they tell would stand still.
            os.utime(place / "add.c", ns=(before + 10**9, before + 10**9))
            self.assertIn("add.o", run("make", cwd=place))
            self.assertEqual(run(place / "sum"), "6")
        self.assertEqual(sorted(tree(self.local)), sorted(tree(self.mounted)))
        run("make", "clean", cwd=self.mounted)

    def test_sqlite(self):
        self.need("sqlite3")
        dumps = []
        for place in (self.local, self.mounted):
            for mode in ("delete", "truncate", "persist", "wal"):
                base = place / mode
                run("sqlite3", base, f"pragma journal_mode={mode};"
                    "create table t(a integer primary key, b text); begin;"
                    "with recursive n(x) as (select 1 union all select x+1 from n where x<3000)"
                    "insert into t select x, hex(x*x) from n; commit;"
                    "create index i on t(b);")  # fmt: skip
                for number in range(10):
                    run("sqlite3", base, f"update t set b='new {number}' where a%97={number};")
                run("sqlite3", base, "begin; delete from t; rollback; delete from t where a%3=0; vacuum;")
                self.assertEqual(run("sqlite3", base, "pragma integrity_check;"), "ok\n")
                dumps.append(run("sqlite3", base, ".dump"))
        self.assertEqual(len(set(dumps)), 1)

    def test_sqlite_of_several_programs(self):
        """Locks hold on one machine: nothing that several write at once gets lost."""
        self.need("sqlite3")
        base = self.mounted / "base"
        run("sqlite3", base, "create table t(a);")
        words = ["sqlite3", "-cmd", ".timeout 60000", base]
        lines = "insert into t values(1);\n" * 20
        writers = [subprocess.Popen([*map(str, words)], stdin=subprocess.PIPE) for _ in range(3)]
        for each in writers:
            each.stdin.write(lines.encode())
            each.stdin.close()
        for each in writers:
            self.assertEqual(each.wait(LONG_S), 0)
        self.assertEqual(run("sqlite3", base, "select count(*) from t; pragma integrity_check;"), "60\nok\n")

    def test_editors(self):
        """Saving by writing the file again, and by a new file and a rename."""
        for place in (self.local, self.mounted):
            path = place / "text"
            path.write_text("one\ntwo\nthree\n")
            path.chmod(0o755)
            run("sed", "-i", "s/two/2/", path)
            if shutil.which("vim"):
                for copy in ("yes", "no", "auto"):
                    run("vim", "-Nu", "NONE", "-es", "-c", f"set backup backupcopy={copy}",
                        "-c", "$put ='more'", "-c", "wq", path)  # fmt: skip
            run("patch", "-s", path, data=b"--- a\n+++ b\n@@ -1,2 +1,2 @@\n-one\n+1\n 2\n")
        self.assert_same(self.local, self.mounted, times=False)
        self.assertTrue((self.mounted / "text").read_text().startswith("1\n2\nthree\n"))

    def test_small_tools(self):
        text = """
        set -e
        seq 1 1000 > numbers; sort -rn numbers -o sorted; gzip -kn numbers; gunzip -c numbers.gz | cmp - numbers
        dd if=numbers of=patched bs=1 count=10 status=none
        dd if=sorted of=patched bs=1 seek=5 count=3 conv=notrunc status=none
        install -m 750 -D numbers deep/er/installed
        touch -d 2001-02-03T04:05:06 stamp; mkdir -p a/b/c; mv a/b other; rmdir a
        ln -s numbers link; cat link >> stamp; truncate -s 12345 long; tee -a long < sorted > /dev/null
        split -l 100 numbers part-; cat part-* | cmp - numbers; rm part-a[a-e]
        find . -name 'part-*' -delete; find . -type f ! -name list | sort > list; split -n 3 numbers third.
        awk 'NR % 2' numbers > odd; comm -12 <(sort odd) <(sort numbers) | wc -l > count; head -c 5 /dev/zero > zero
        mktemp -d tmp.XXXXXX | xargs rmdir; csplit -s numbers 500; flock lockfile true; shuf -n 0 numbers
        """
        for place in (self.local, self.mounted):
            run("bash", "-c", text, cwd=place)
        self.assert_same(self.local, self.mounted, times=False)
        self.assertLess((self.mounted / "odd").stat().st_mtime, time.time() + 5)

    def test_fio_verifies(self):
        self.need("fio")
        for name, *options in (
            ("random", "--rw=randrw", "--bsrange=512-64k"),
            ("order", "--rw=write", "--bs=1m"),
            ("mapped", "--rw=randwrite", "--bs=4k", "--ioengine=mmap"),
            ("many", "--rw=randwrite", "--bs=4k", "--numjobs=3", "--fsync=64"),
        ):
            run("fio", "--name", name, "--directory", self.mounted, "--size", "4m", "--ioengine=psync",
                "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--invalidate=1", "--thread",
                "--output-format=terse", *options, cwd=self.local)  # fmt: skip

    def test_what_is_here_is_in_the_node(self):
        """All that the mount shows is what the node says over HTTP."""
        sources = self.sources()
        run("cp", "-a", sources, self.mounted / "s")
        top = f"{self.mounted.name}/s"
        expected = {f"{top}/{path}": what for path, what in tree(sources).items()}

        def told():
            answer = self.node.get(f"/fs/{top}?depth=all", Accept="application/x-ndjson")
            lines = [harness.json.loads(line) for line in answer.body.splitlines()]
            return {line["path"]: line for line in lines}

        harness.wait_for(lambda: set(told()) >= set(expected), LONG_S, "the node has all")
        for path, entry in told().items():
            what = expected.get(path)
            if entry["type"] == "file":
                harness.wait_for(lambda: self.node.get(f"/fs/{quote(path)}").body == what[-1],
                                 LONG_S, path)  # fmt: skip
            elif entry["type"] == "symlink":
                self.assertEqual(entry["target"], what[-1])


if __name__ == "__main__":
    unittest.main()
