# SPDX-License-Identifier: Apache-2.0
"""join-tree: an empty node joins two that have a tree of many entries.

The clock starts when the new node says that it is ready. Its parts: until it sees both others; until
one of them has written a snapshot; until the new one has all of it and begins to merge; until it has
merged, which it tells in its log; until its tree is that of the others. Bytes are those of the links
between nodes, by their own count. What the nodes take in memory and on the disk stands below.
"""

import argparse

from lib.network import *

POLL_S = 0.05
SINGLY_CONNECTIONS = 64
SINGLY_SECONDS = 5


class Joined:
    """One node that joined: when what happened, in seconds from its start."""

    PARTS = ("sees all", "snapshot written", "received", "merged", "equal trees")

    def __init__(self, node, others, seconds):
        self.at = {}
        sent = sum(other.metrics()["link_sent_bytes_total"] for other in others)
        messages = sum(other.metrics()["tree_message_bytes_sent_total"] for other in others)
        served = sum(other.metrics()["tree_snapshots_served_total"] for other in others)
        givers_cpu = sum(other.cpu_seconds() for other in others)
        lo, empty = loopback_bytes(), None
        begin = node.start(others[0])
        begin_wall = time.time()
        empty = node.private_bytes()
        deadline = begin + seconds
        wanted = others[0].state()

        def mark(name, condition):
            if name not in self.at and condition():
                self.at[name] = time.monotonic() - begin

        self.peak = 0
        while "equal trees" not in self.at:
            now = node.metrics()
            self.peak = max(self.peak, node.private_bytes())
            mark("sees all", lambda: now["members_alive"] > len(others))
            mark("snapshot written", lambda: sum(
                other.metrics()["tree_snapshots_served_total"] for other in others) > served)  # fmt: skip
            if now["tree_entries"] >= wanted[1]:
                mark("equal trees", lambda: node.state() == wanted)
            if time.monotonic() > deadline:
                raise SystemExit(f"failed: not equal after {seconds} s: {now}\n{node.log.read_text()}")
            time.sleep(POLL_S if now["tree_merging"] or len(self.at) < 2 else POLL_S / 5)
        for name, event in (("received", "tree_merge_begun"), ("merged", "tree_merge_done")):
            if logged := node.logged_at(event):
                self.at[name] = logged - begin_wall
        self.by_snapshot = "merged" in self.at
        self.cpu = node.cpu_seconds()
        self.givers_cpu = sum(other.cpu_seconds() for other in others) - givers_cpu
        self.lo_bytes = loopback_bytes() - lo
        end = node.metrics()
        self.link_bytes = end["link_sent_bytes_total"] - sent
        self.link_bytes += sum(other.metrics()["link_sent_bytes_total"] for other in others)
        self.message_bytes = end["tree_message_bytes_sent_total"] - messages
        self.message_bytes += sum(other.metrics()["tree_message_bytes_sent_total"] for other in others)
        self.memory, self.empty = node.private_bytes(), empty
        self.database = database_bytes(node.data)


def print_joined(joined, entries):
    rows = []
    for name in Joined.PARTS:
        times = [each.at[name] for each in joined if name in each.at]
        if times:
            rows.append((f"{name} after, s", spread(times)))

    def row(what, form, values):
        rows.append((what, spread(list(values), form)))

    row("bytes of the links for each entry", "{:.1f}", (each.link_bytes / entries for each in joined))
    row("of it messages about the tree", "{:.1f}", (each.message_bytes / entries for each in joined))
    row("CPU of the new node, s", "{:.2f}", (each.cpu for each in joined))
    row("CPU of the two others, s", "{:.2f}", (each.givers_cpu for each in joined))
    row("private memory, MiB", "{:.1f}", (each.memory / MIB for each in joined))
    row("the most meanwhile, MiB", "{:.1f}", (each.peak / MIB for each in joined))
    row("bytes of the database for each entry", "{:.0f}", (each.database / entries for each in joined))
    how = "by a snapshot" if all(each.by_snapshot for each in joined) else "by ops"
    print_table((f"{entries} entries, joined {len(joined)} times, {how}", ""), rows)


def fill_singly(node, where, entries):
    """Files of one content, each by a request of its own, `entries` or a few more."""
    made = json.loads(node.request("PUT", "/fs/t/first", b"0123456789abcdef"))
    body = json.dumps({"op": "link", "id": made["id"]})
    first = 0
    while (there := node.state()[1]) < entries:
        request = f"""
        local i = {first} + n
        return wrk.format("POST", string.format("/fs/t/%02d/%05d/entry-%08d",
            math.floor(i / 100000), math.floor(i / 1000), i), nil, [[{body}]])
        """
        load = wrk(node, where, request, SINGLY_CONNECTIONS, SINGLY_SECONDS)
        first += load.requests + SINGLY_CONNECTIONS
        progress(f"{there + load.requests} entries, {load.rate:.0f} a second")
    progress("")


def measure(where, options):
    others = Others()
    with network(where, 2) as nodes:
        fresh = [(node.private_bytes(), database_bytes(node.data)) for node in nodes]
        cpu = [node.cpu_seconds() for node in nodes]
        begin = time.monotonic()
        if options.singly:
            fill_singly(nodes[0], where, options.entries)
        else:
            fill(nodes[0], where, options.entries, options.content, "t/")
        made = time.monotonic() - begin
        begin = time.monotonic()
        behind = wait_equal(nodes, options.seconds) - begin
        cpu = [node.cpu_seconds() - before for node, before in zip(nodes, cpu)]
        entries = nodes[0].state()[1]
        rows = [
            ("made, s", f"{made:.1f}", ""),
            ("trees equal behind the last answer, s", "", f"{behind:.2f}"),
            ("CPU for each entry, us", *(f"{each / entries * 1e6:.1f}" for each in cpu)),
            ("private memory, MiB", *(f"{node.private_bytes() / MIB:.1f}" for node in nodes)),
            ("private memory when empty, MiB", *(f"{memory / MIB:.1f}" for memory, _ in fresh)),
            (
                "bytes of the database for each entry",
                *(f"{(database_bytes(node.data) - size) / entries:.0f}"
                  for node, (_, size) in zip(nodes, fresh)),
            ),
        ]  # fmt: skip
        kind = "files of 16 bytes" if options.content or options.singly else "symbolic links"
        kind += ", a change each" if options.singly else ", 512 in a change"
        print_table((f"{entries} entries, {kind}", "made here", "told of each change"), rows)
        joined = []
        for number in range(3, 3 + options.rounds):
            node = Node(where, number)
            try:
                joined.append(Joined(node, nodes, options.seconds))
            finally:
                node.end(signal.SIGTERM)
            if not options.keep:
                remove(node.data)
            progress(f"joined in {joined[-1].at['equal trees']:.2f} s")
        progress("")
        print_joined(joined, entries)
    others.print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=1000000, help="(1000000)")
    parser.add_argument("--content", action="store_true", help="files of 16 bytes, not links")
    parser.add_argument("--singly", action="store_true", help="a request for each, not 512 in a change")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--disk", action="store_true", help="data on the disk, not in memory")
    parser.add_argument("--seconds", type=int, default=300, help="that one may take (300)")
    parser.add_argument("--keep", action="store_true", help="data of who joined, until the end")
    options = parser.parse_args()
    need("curl", *(["wrk"] if options.singly else []))
    enter_namespace()
    root = disk_root() if options.disk else MEMORY_ROOT
    print_machine(root)
    with work_dir(root) as where:
        measure(where, options)


main()
