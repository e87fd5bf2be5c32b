# SPDX-License-Identifier: Apache-2.0
"""follow: from a publication at one node to the end of the command at the last of several followers.

One node publishes, each of the others has a follower beside it that runs a command when something has
arrived. Once a directory of many small files, published in one step (so that the command runs once), once
one large file. The clock starts before the publication, so the time holds reading, hashing and syncing at
the publisher; "published" is when that had answered. Followers sync what they write.

Beside it: syncthing, as quick as it can be set (no syncs), until the last of the files stands in the last
directory; it hashes at the publisher, too, when it is told by its API.
"""

import argparse
import random

from lib.network import *
from lib.syncthing import FOLDER, KEY, syncthing_network


def make_files(where, count, size_bytes):
    """A directory of so many different files in folders of 100; gives their names."""
    names = []
    for number in range(count):
        name = f"{number // 100}/{number}"
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(size_bytes))
        names.append(name)
    return names


def make_large(where, size_bytes):
    where.mkdir(parents=True)
    with open(where / "large", "wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(random.randbytes(MIB))
    return ["large"]


class Follower:
    """`artel follow` of t/** at a node; the command touches a file."""

    def __init__(self, node, where):
        self.directory, self.mark = where / f"to-{node.number}", where / f"mark-{node.number}"
        words = [ARTEL, "follow", "t", "--to", self.directory, "--quiet",
                 "--node", f"unix:{node.data}/socket",
                 "--exec", f"date +%s.%N > {self.mark}.part; mv {self.mark}.part {self.mark}"]  # fmt: skip
        self.process = subprocess.Popen([str(word) for word in words])
        state = self.directory / ".artel-follow/state"
        wait_until(lambda: state.exists() and json.loads(state.read_text())["current"], "follows")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def artel(where, source, names, count):
    """(seconds to the answer, to the first command's end, to the last one's)"""
    with network(where, count + 1) as nodes:
        followers = [Follower(node, where) for node in nodes[1:]]
        try:
            begin = time.time()
            words = [ARTEL, "put", "--quiet", "--node", f"unix:{nodes[0].data}/socket", "--atomic", source, "t"]
            subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
            published = time.time() - begin
            marks = [follower.mark for follower in followers]
            wait_until(lambda: all(mark.exists() for mark in marks), "commands", 600, 0.005)
            moments = sorted(float(mark.read_text()) - begin for mark in marks)
            for follower in followers:
                found = sum(1 for name in names if (follower.directory / "t" / name).exists())
                if found != len(names):
                    raise SystemExit(f"failed: {found} of {len(names)} files at a follower")
        finally:
            for follower in followers:
                follower.end()
        return published, moments[0], moments[-1]


def syncthing(where, source, names, count):
    with syncthing_network(where, count + 1) as nodes:
        begin = time.time()
        shutil.copytree(source, nodes[0].folder / "t")
        headers = {**KEY, "Content-Length": "0"}
        nodes[0].request("POST", f"/rest/db/scan?folder={FOLDER}", headers=headers)
        published = time.time() - begin
        places, moments = [node.folder / "t" for node in nodes[1:]], {}

        def has_all(place):
            return all((place / name).exists() for name in reversed(names))

        def are_all():
            for place in places:
                if place not in moments and has_all(place):
                    moments[place] = time.time() - begin
            return len(moments) == len(places)

        wait_until(are_all, "all files", 600, 0.02)
        return published, min(moments.values()), max(moments.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--followers", type=int, default=8, help="(8)")
    parser.add_argument("--files", type=int, default=10000, help="of 4 KiB (10000)")
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large file (1024)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--only", choices=("artel", "syncthing"), help="this one (both)")
    options = parser.parse_args()
    enter_namespace()
    root = disk_root()
    print_machine(root)
    rows, others = [], Others()
    for what, make in (
        (f"{options.files} files of 4 KiB", lambda at: make_files(at, options.files, 4 * KIB)),
        (f"a file of {options.large} MiB", lambda at: make_large(at, options.large * MIB)),
    ):
        for name, run in (("artel", artel), ("syncthing", syncthing)):
            if options.only not in (None, name):
                continue
            if name == "syncthing" and not shutil.which(name):
                print("syncthing: not installed (apt-get install syncthing)")
                continue
            times = []
            for number in range(options.rounds):
                progress(f"{name}, {what}: {number + 1} of {options.rounds}")
                with work_dir(root) as where:
                    names = make(where / "source")
                    times.append(run(where, where / "source", names, options.followers))
            progress("")
            rows.append((f"{name}, {what}", *(spread(list(column)) for column in zip(*times))))
    print_table(("what", "published, s", "first follower, s", "last follower, s"), rows)
    print(f"{options.followers} followers, {options.rounds} rounds in {root}: {file_system(root)}")
    others.print()


main()
