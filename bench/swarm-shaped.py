# SPDX-License-Identifier: Apache-2.0
"""swarm-shaped: one file to several machines at once, whose links are shaped both ways.

The ideal is the size over the rate of a link: all of the file has to come over the publisher's link
once, and over each receiver's. Times are given as multiples of it. See lib/swarm.py for who else runs
and how.
"""

import argparse

from lib.swarm import *

RACERS = {kind.name: kind for kind in (Artel, Aria2, Libtorrent)}
# receivers, MiB, Mbit/s, wanted: times the ideal
RACES = ((4, 256, 200, 1.2), (8, 256, 200, 1.2), (16, 128, 100, 1.25), (16, 8, 100, 1.78),
         (32, 64, 50, 1.3))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--racers", default=",".join(RACERS), help=f"({','.join(RACERS)})")
    parser.add_argument("--races", default="", help="receivers:MIB:MBIT[,...] instead of all")
    options = parser.parse_args()
    enter_namespace()
    need("aria2c", "tc")
    print_machine(MEMORY_ROOT)
    races = [(*map(int, each.split(":")), "") for each in options.races.split(",") if each] or RACES
    for count, mib, mbit, wanted in races:
        ideal = mib * MIB * 8 / (mbit * 1e6)
        results = {name: [] for name in options.racers.split(",")}
        others = Others()
        for number in range(options.rounds):
            for name, each in results.items():
                links = Links(count + 1, mbit)
                try:
                    each.append(race(RACERS[name], links, count, RandomFile(mib * MIB), True))
                finally:
                    links.close()
                progress(f"1 to {count}, {name}: {each[-1].last:.2f} s")
        progress("")
        print(f"1 to {count}, {mib} MiB at {mbit} Mbit/s: ideal {ideal:.2f} s, wanted {wanted} times that")
        rows = [
            (
                name,
                spread([result.last for result in each]),
                spread([result.last / ideal for result in each]),
                f"{median([result.publish for result in each]):.2f}",
                f"{median([result.sent_bytes / (mib * MIB) for result in each]):.2f}",
                f"{median([result.cpu_seconds for result in each]):.1f}",
                f"{median([result.private_bytes for result in each]) / MIB:.0f}",
            )
            for name, each in results.items()
        ]
        print_table(
            ("who", "until all are done, s", "times the ideal", "publish, s",
             "copies that the publisher sent", "CPU, s", "private memory of all, MiB"), rows,
        )  # fmt: skip
        others.print()


main()
