# SPDX-License-Identifier: Apache-2.0
"""swarm-free: one file to several nodes on one machine at once, in memory, without a bound on links.

What limits is the processor: every byte is sent, received, checked and written for each receiver. All
check what comes but nginx with curl, which shows what the machine can do at best. "artel" is `artel
get`: the file, and a copy in the store of each receiver; "artel fetch" that copy alone (POST
/fetches).
"""

import argparse

from lib.swarm import *

class ArtelFetch(Artel):
    name = "artel fetch"

    def go(self, number):
        script = pathlib.Path(__file__).parent / "lib" / "fetch_all.py"
        # The file is all that the tree has: below the root.
        words = [sys.executable, "-B", script, self.links.address(number), PORT, "", 1]
        self.fetches[number] = self.run(number, words)

    def copy(self, number):
        return None


RACERS = {kind.name: kind for kind in (Artel, ArtelFetch, Rsync, Libtorrent, NginxCurl)}
RACES = ((4, 512), (8, 512))  # receivers, MiB


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--racers", default=",".join(RACERS), help=f"({','.join(RACERS)})")
    parser.add_argument("--races", default="", help="receivers:MIB[,...] instead of both")
    options = parser.parse_args()
    enter_namespace()
    need("rsync", "nginx", "curl")
    print_machine(MEMORY_ROOT)
    races = [tuple(map(int, each.split(":"))) for each in options.races.split(",") if each] or RACES
    for count, mib in races:
        results = {name: [] for name in options.racers.split(",")}
        others = Others()
        for number in range(options.rounds):
            for name, each in results.items():
                each.append(race(RACERS[name], Loopback(), count, RandomFile(mib * MIB), False))
                progress(f"1 to {count}, {name}: {each[-1].last:.2f} s")
        progress("")
        print(f"1 to {count}, {mib} MiB")
        rows = [
            (
                name,
                spread([result.last for result in each]),
                f"{median([result.publish for result in each]):.2f}",
                f"{median([result.cpu_seconds for result in each]):.1f}",
                f"{median([result.private_bytes for result in each]) / MIB:.0f}",
            )
            for name, each in results.items()
        ]
        print_table(
            ("who", "until all are done, s", "publish, s", "CPU, s", "private memory of all, MiB"), rows
        )
        others.print()


main()
