# SPDX-License-Identifier: Apache-2.0
"""holders: one file to one machine, which 1, 2, 4 or 8 others have; all links shaped both ways.

More holders must not make it slower. The ideal is the size over the rate of the receiver's link. What
comes twice is told, too: outside the end, when only the last blocks are on their way, it should be
nothing.
"""

import argparse

from lib.machines import *

HOLDERS = (1, 2, 4, 8)
SLOWER = 1.10
DUPLICATES = 0.005
NAMES = ("fetch_bytes_total", "fetch_duplicate_bytes_total", "fetch_raced_bytes_total",
         "fetch_blocks_hedged_total", "blocks_wasted_bytes_total")  # fmt: skip


def measure(machines, where, count, size):
    """A new file; gives seconds, and the counters of the receiver for it."""
    source = where / "source" / f"file-{count}.bin"
    random_file(source, size)
    machines.publish(source)
    machines.wait_known(range(machines.count + 1))
    if count > 1:
        machines.get_all(range(1, count))
    receiver = machines.count
    before = machines.metrics(receiver)
    seconds = machines.get_all([receiver])
    after = machines.metrics(receiver)
    source.unlink()
    return seconds, [after[name] - before[name] for name in NAMES]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--mib", type=int, default=64, help="of the file (64)")
    parser.add_argument("--mbit", type=int, default=200, help="of each link (200)")
    options = parser.parse_args()
    enter_namespace()
    need("tc")
    print_machine(MEMORY_ROOT)
    ideal = options.mib * MIB * 8 / (options.mbit * 1e6)
    results = {count: [] for count in HOLDERS}
    others = Others()
    for number in range(options.rounds):
        with work_dir(MEMORY_ROOT) as where:
            (where / "source").mkdir()
            with Machines(where, max(HOLDERS), options.mbit) as machines:
                for count in HOLDERS[:: 1 if number % 2 else -1]:
                    results[count].append(measure(machines, where, count, options.mib * MIB))
                    progress(f"{count} holders: {results[count][-1][0]:.2f} s")
    progress("")
    print(f"{options.mib} MiB at {options.mbit} Mbit/s: ideal {ideal:.2f} s")
    rows, best, fails = [], None, []
    for count, each in results.items():
        seconds = [one[0] for one in each]
        received, twice, raced, hedged, wasted = (sum(one[1][i] for one in each) for i in range(5))
        share = (twice - raced) / received
        middle = median(seconds)
        if best and middle > best * SLOWER:
            fails.append(f"{count} holders are slower: {middle:.2f} s, fewer took {best:.2f}")
        if share > DUPLICATES:
            fails.append(f"{count} holders: {100 * share:.2f} % came twice")
        best = min(best or middle, middle)
        rows.append((count, spread(seconds), f"{middle / ideal:.2f}", f"{100 * share:.2f}",
                     f"{100 * raced / received:.2f}", f"{100 * wasted / received:.2f}",
                     f"{hedged / len(each):.1f}"))  # fmt: skip
    print_table(("holders", "until it is there, s", "times the ideal", "came twice, %",
                 "twice at the end, %", "not wanted any more, %", "late blocks"), rows)  # fmt: skip
    others.print()
    print("\n".join(fails) or f"more holders are at most {100 * (SLOWER - 1):.0f} % slower: holds")


main()
