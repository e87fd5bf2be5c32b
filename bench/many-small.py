# SPDX-License-Identifier: Apache-2.0
"""many-small: a directory of files of 4 to 16 KiB from one machine to others, in memory.

Machines are network namespaces behind a bridge, without a bound on their links. "artel" is `artel
get`: plain files, as the others make, and a copy in the store of each receiver; "artel fetch" that
copy alone (POST /fetches), "artel follow" plain files that the store has as its own. rsync checks
nothing, artel and libtorrent compare all that comes with its hash.
"""

import argparse

from lib.swarm import *


class ArtelFetch(Artel):
    name = "artel fetch"

    def go(self, number):
        script = pathlib.Path(__file__).parent / "lib" / "fetch_all.py"
        words = [sys.executable, "-B", script, self.links.address(number), PORT]
        words += [self.source.name, sum(path.is_file() for path in self.source.rglob("*"))]
        self.fetches[number] = self.run(number, words)

    def copy(self, number):
        return None


class ArtelFollow(Artel):
    name = "artel follow"
    LOOK_S = 0.05  # a look at all files takes a while

    def go(self, number):
        self.files = sum(path.is_file() for path in self.source.rglob("*"))
        self.looked = {}
        words = [ARTEL, "follow", "--quiet", "--node", self.url(number), f"{self.source.name}/**"]
        self.run(number, [*words, "--to", self.directory(number)])

    def is_done(self, number):
        if time.monotonic() < self.looked.get(number, 0) + self.LOOK_S:
            return False
        self.looked[number] = time.monotonic()
        return sum(len(files) for _, _, files in os.walk(self.copy(number))) == self.files


class SmallLibtorrent(Libtorrent):
    def piece_bytes(self):
        return 256 * KIB


RACERS = {kind.name: kind for kind in (Artel, ArtelFetch, ArtelFollow, Rsync, SmallLibtorrent)}
RACES = ((1, 10000), (4, 100000))  # receivers, files


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--racers", default=",".join(RACERS), help=f"({','.join(RACERS)})")
    parser.add_argument("--races", default="", help="receivers:files[,...] instead of both")
    options = parser.parse_args()
    enter_namespace()
    need("rsync")
    print_machine(MEMORY_ROOT)
    races = [tuple(map(int, each.split(":"))) for each in options.races.split(",") if each] or RACES
    for count, files in races:
        results = {name: [] for name in options.racers.split(",")}
        others = Others()
        for _ in range(options.rounds):
            for name, each in results.items():
                links = Links(count + 1)
                try:
                    each.append(race(RACERS[name], links, count, SmallFiles(files), False))
                finally:
                    links.close()
                progress(f"1 to {count}, {name}: {each[-1].last:.2f} s")
        progress("")
        print_race(count, files, results)
        others.print()


def print_race(count, files, results):
    print(f"1 to {count}, {files:,} files")
    rates = {name: [count * files / result.last for result in each] for name, each in results.items()}
    peers = rates.get(Rsync.name)
    rows = []
    for name, each in results.items():
        content = count * SmallFiles(files).content_bytes()
        rows.append(
            (
                name,
                spread(rates[name], "{:,.0f}"),
                spread([mine / other for mine, other in zip(rates[name], peers)]) if peers else "",
                f"{median([result.publish for result in each]):.2f}",
                f"{median([result.last for result in each]):.2f}",
                f"{median([result.all_sent_bytes / content for result in each]):.3f}",
                f"{median([result.cpu_seconds / count / files for result in each]) * 1e6:.0f}",
                f"{median([result.private_bytes for result in each]) / MIB:.0f}",
            )
        )
    print_table(
        ("who", "files/s, all receivers", "of rsync's", "publish, s", "until all are done, s",
         "bytes sent by all, of the content", "CPU, us a file", "private memory of all, MiB"), rows,
    )  # fmt: skip


main()
