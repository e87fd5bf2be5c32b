# SPDX-License-Identifier: Apache-2.0
"""tree: a node with many entries.

Symbolic links (entries without content) are created by tar streams, 10,000 each; then lookups of one
entry (wrk, GET ?depth=0), pages of 1,000 of a listing, private memory, bytes of the database for
each entry, and the time until a node with all of them serves again. With --depth, all of it lies so
many directories down. With --atomic, a directory of as many entries (49,000 at most) is also made,
replaced by another and removed, each in one step.
"""

import argparse

from lib.streams import *

IN_ATOMIC = 49000  # a step may have 100,000 changes: these, as many that go, and the directory


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=100000, help="(100000)")
    parser.add_argument("--content", action="store_true", help="files of 16 bytes, not links")
    parser.add_argument("--depth", type=int, default=0, help="directories above all entries (0)")
    parser.add_argument("--atomic", action="store_true", help="whole directories in one step, too")
    parser.add_argument("--rounds", type=int, default=3, help="of what is read (3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each run of wrk (3)")
    options = parser.parse_args()
    need("wrk", "curl")
    print_machine()
    with work_dir() as where:
        measure(where, options)


def deep(name, options):
    return name + "/d" * options.depth


def atomic(node, where, options, rows):
    """One directory: made, replaced by one whose names are all others, removed."""
    stream = where / "stream.tar"
    count = min(IN_ATOMIC, options.entries)
    path = deep("atomic", options)
    make_stream(stream, 0, count, options.content)

    def row(what, act):
        cpu, start = node.cpu_seconds(), time.monotonic()
        act()
        seconds, cpu = time.monotonic() - start, node.cpu_seconds() - cpu
        rows.append(
            (f"{what} {count} in one step", f"{seconds:.2f} s, CPU {cpu / count * 1e6:.1f} us each")
        )

    row("create", lambda: put_stream(node, stream, path + "/?atomic=1"))
    row("replace by the same", lambda: put_stream(node, stream, path + "/?atomic=1"))
    make_stream(stream, count, count, options.content)
    row("replace by others", lambda: put_stream(node, stream, path + "/?atomic=1"))
    row("remove", lambda: node.request("DELETE", f"/fs/{path}?recursive=1"))


def measure(where, options):
    others = Others()
    rows = []
    data = where / "data"
    with artel_node(data) as node:
        empty_database, empty_memory = database_bytes(data), node.private_bytes()
        cpu = node.cpu_seconds()
        streams = fill(node, where, options.entries, options.content, deep("t", options) + "/")
        cpu = node.cpu_seconds() - cpu
        entries = node.status()["entries"]
        rate = options.entries / sum(streams)
        first, last = IN_STREAM / streams[0], IN_STREAM / streams[-1]
        rows.append(("creates a second", f"{rate:.0f}; first stream {first:.0f}, last {last:.0f}"))
        rows.append(("CPU us for each create", f"{cpu / options.entries * 1e6:.1f}"))
        rows.append(("private memory after it", f"{node.private_bytes() / MIB:.1f} MiB"))
    starts = []
    for _ in range(options.rounds):
        start = time.monotonic()
        with artel_node(data) as node:
            starts.append(time.monotonic() - start)
            assert node.status()["entries"] == entries
    with artel_node(data) as node:
        read(node, where, options, rows)
        memory = node.private_bytes()
        size = database_bytes(data) - empty_database
        if options.atomic:
            atomic(node, where, options, rows)
    rows.append(("private memory", f"{memory / MIB:.1f} MiB (empty {empty_memory / MIB:.1f})"))
    rows.append(("bytes of the database for each", f"{size / entries:.0f}"))
    rows.append(("start until it serves, ms", spread([each * 1e3 for each in starts], "{:.0f}")))
    kind = "files of 16 bytes" if options.content else "symbolic links"
    print_table((f"{entries} entries, {kind}, depth {options.depth}", ""), rows)
    others.print()


def read(node, where, options, rows):
    # A stride that has no common factor with any round number goes everywhere.
    top = deep("/fs/t", options)
    lookup = f"""
    local i = n * 7919 % {options.entries}
    return wrk.format("GET", string.format("{top}/%02d/%05d/entry-%08d?depth=0",
        math.floor(i / {100 * IN_DIRECTORY}), math.floor(i / {IN_DIRECTORY}), i))
    """
    page = f"""
    local i = n * 7919 % {max(1, options.entries // IN_DIRECTORY)}
    return wrk.format("GET", string.format("{top}/%02d/%05d", math.floor(i / 100), i))
    """
    for name, request, connections in (
        ("lookups a second, 32 connections", lookup, 32),
        ("pages of 1,000 a second, 1 connection", page, 1),
    ):
        loads = [
            wrk(node, where, request, connections, options.seconds) for _ in range(options.rounds)
        ]
        rows.append(
            (
                name,
                spread([load.rate for load in loads], "{:.0f}")
                + f"; median {median([load.median for load in loads]) * 1e3:.2f} ms"
                + f", p99 {median([load.p99 for load in loads]) * 1e3:.2f} ms"
                + f", CPU {median([load.cpu_seconds / load.requests for load in loads]) * 1e6:.1f} us each",
            )
        )


main()
