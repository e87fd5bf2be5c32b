# SPDX-License-Identifier: Apache-2.0
"""put: files into a node over HTTP, durable.

Files of 4 KiB with 1 and with 64 clients (wrk, each name and content new) against how often the disk
syncs 4 KiB in the same round; 1 GiB with curl against `artel store put` of the same file.
"""

import argparse

from lib.nodes import *

PUT = """
return wrk.format("PUT", "/fs/" .. run .. "/" .. n % 100 .. "/" .. n, nil,
    run .. string.format("%012d", n) .. string.rep("x", 4096 - 12 - #run))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each run of wrk (3)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64], help="(1 64)")
    parser.add_argument("--only", choices=["small", "large"], help="4 KiB or 1 GiB (both)")
    options = parser.parse_args()
    need("wrk", "curl")
    print_machine(disk_root(), MEMORY_ROOT)
    roots = (disk_root(), MEMORY_ROOT)
    for root in roots if options.only != "large" else ():
        with work_dir(root) as where:
            print(f"4 KiB each, in {root}")
            put_small(where, options)
    for root in roots if options.only != "small" else ():
        with work_dir(root) as where:
            print(f"1 GiB, in {root}")
            put_large(where, options.rounds)


def put_small(where, options):
    syncs = Syncs(where)
    syncs.for_seconds(0.3)
    others = Others()
    results = {clients: [] for clients in options.clients}
    bounds = []
    with artel_node(where / "data") as node:
        for _ in range(options.rounds):
            each = syncs.for_seconds(options.seconds / 2)
            for clients, loads in results.items():
                loads.append(wrk(node, where, PUT, clients, options.seconds))
            each += syncs.for_seconds(options.seconds / 2)
            bounds.append(1 / (sum(each) / len(each)))
    rows = [("write of 4 KiB + fdatasync", spread(bounds, "{:.0f}"), "1.00", "", "", "")]
    for clients, loads in results.items():
        rows.append(
            (
                f"artel, {clients} clients",
                spread([load.rate for load in loads], "{:.0f}"),
                spread([load.rate / bound for load, bound in zip(loads, bounds)]),
                f"{median([load.median for load in loads]) * 1e3:.2f}",
                f"{median([load.p99 for load in loads]) * 1e3:.2f}",
                f"{median([load.cpu_seconds / load.requests for load in loads]) * 1e6:.0f}",
            )
        )
    print_table(("what", "a second", "of the syncs", "median ms", "p99 ms", "CPU us each"), rows)
    others.print()


def put_large(where, rounds):
    source = where / "file"
    with open(source, "wb") as file:
        for _ in range(GIB // MIB):
            file.write(os.urandom(MIB))
    with contextlib.ExitStack() as stack:
        # One node for each round, so that it has none of the blocks yet. It is idle until its turn.
        nodes = [stack.enter_context(artel_node(where / f"node-{i}")) for i in range(rounds)]
        waiting = iter(nodes)

        def over_http(_):
            url = f"{next(waiting).url}/fs/file"
            commands(["curl", "-fsS", "-H", "Expect:", "-o", "/dev/null", "-T", source, url])(None)

        store = Case("artel store put", commands([ARTEL, "store", "put", "--data", TARGET, source]))
        node = Case("PUT with curl", over_http)
        written = Case(
            "dd, fdatasync",
            commands(["dd", f"if={source}", f"of={TARGET}", "bs=1M", "conv=fdatasync"]),
        )
        run_rounds([written, store, node], rounds, where)
        cpu = median([each.cpu_seconds() for each in nodes])
    rows = [
        (
            case.name,
            spread(case.seconds),
            f"{GIB / 1e6 / median(case.seconds):.0f}",
            spread(ratios(case, store)),
        )
        for case in (written, store, node)
    ]
    print_table(("what", "seconds", "MB/s", "times store put"), rows)
    print(f"CPU s: store put {median(store.cpu_seconds):.2f}, node {cpu:.2f}\n")


main()
