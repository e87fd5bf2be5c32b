# SPDX-License-Identifier: Apache-2.0
"""repair: two nodes with the same many entries; one is away while some more are made at the other.

One is killed (or stopped, with --stop), files are published at the other, and it comes back. Then:
seconds from the moment in which it says that it is ready (or is continued), and from that in which it
sees the other, until both trees are equal; bytes of messages about the tree meanwhile, both ways, without
the ops themselves, and all bytes of links and datagrams.
"""

import argparse

from lib.network import *

BODY = b"0123456789abcdef"
POLL_S = 0.005
OP_BYTES = 135  # of an op that makes a file, but for its path (wire/tree_op.h)
RETURN_S = 60


def publish(node, paths):
    connection = http.client.HTTPConnection(node.host, node.port, timeout=60)
    for path in paths:
        connection.request("PUT", f"/fs/{path}", BODY)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise SystemExit(f"failed: PUT {path}: {answer.status}")
    connection.close()


TRAFFIC = ("tree_message_bytes_sent_total", "link_sent_bytes_total", "member_datagram_bytes_sent_total")


def traffic(*nodes):
    metrics = [node.metrics() for node in nodes]
    return [sum(each[name] for each in metrics) for name in TRAFFIC]


class Repair:
    def __init__(self, here, away, paths, stop):
        if stop:
            away.process.send_signal(signal.SIGSTOP)
        else:
            away.end()
        # Until it is missed, what is broadcast may still reach it when it comes back.
        wait_until(lambda: here.metrics()["members_unreachable"] == 1, "it is missed", RETURN_S)
        publish(here, paths)
        wanted = here.state()
        self.op_bytes = sum(OP_BYTES + len(path) for path in paths)
        before = traffic(here)
        if stop:
            away.process.send_signal(signal.SIGCONT)
            begin = time.monotonic()
        else:
            begin = away.start()
        meet = begin
        while away.state() != wanted:
            now = time.monotonic()
            if meet == begin and away.metrics()["members_alive"] == 2:
                meet = time.monotonic()
            if now - begin > RETURN_S:
                raise SystemExit(f"failed: not equal in {RETURN_S} s: {away.metrics()}")
            time.sleep(POLL_S)
        end = time.monotonic()
        after = traffic(here, away) if not stop else traffic(here)
        self.messages, self.links, self.datagrams = (b - a for a, b in zip(before, after))
        self.seconds, self.met_seconds = end - begin, end - max(begin, meet)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=1000000, help="(1000000)")
    parser.add_argument("--differ", type=int, nargs="+", default=[1, 10, 100, 1000], help="(1 10 100 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--stop", action="store_true", help="with SIGSTOP, not killed")
    parser.add_argument("--disk", action="store_true", help="data on the disk, not in memory")
    options = parser.parse_args()
    need("curl")
    enter_namespace()
    root = disk_root() if options.disk else MEMORY_ROOT
    print_machine(root)
    with work_dir(root) as where, network(where, 2) as (here, away):
        measure(where, here, away, options)


def measure(where, here, away, options):
    others = Others()
    fill(here, where, options.entries, False, "t/")
    wait_equal((here, away), 600)
    rows = []
    for count in options.differ:
        repairs = []
        for number in range(options.rounds):
            # All over the tree: each in another of its directories.
            paths = [
                f"t/{entry_path(i * options.entries // count)}-{count}-{number}" for i in range(count)
            ]
            repairs.append(Repair(here, away, paths, options.stop))
            progress(f"{count}: {repairs[-1].seconds:.2f} s")
        rows.append(
            (
                count,
                spread([each.seconds for each in repairs]),
                spread([each.met_seconds for each in repairs]),
                f"{median([each.op_bytes for each in repairs]):.0f}",
                spread([each.messages - each.op_bytes for each in repairs], "{:.0f}"),
                spread([each.links for each in repairs], "{:.0f}"),
                spread([each.datagrams for each in repairs], "{:.0f}"),
            )
        )
    progress("")
    print(f"{options.entries} entries; away: {'stopped' if options.stop else 'killed'}")
    print_table(
        (
            "differ in", "equal after, s", "after they see each other, s", "bytes of the ops",
            "of messages beyond them", "all of links", "all of datagrams",
        ),
        rows,
    )  # fmt: skip
    others.print()


main()
