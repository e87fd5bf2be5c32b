# SPDX-License-Identifier: Apache-2.0
"""watch: from the end of a PUT to its event at a watcher.

The clock starts when the last byte of a PUT of 4 KiB was given to the kernel, so the time holds the
syncs of the PUT itself. Each PUT is followed by a write of 4 KiB with fdatasync in the same file
system, so that the disk is compared as it is at that moment. Once alone, once with idle watchers of
another pattern.
"""

import argparse
import resource
import selectors

from lib.nodes import *


def one_put(node, selector, client, watcher, name):
    """Gives the seconds from the end of the request to its event, and to its answer."""
    body = name.encode().ljust(4 * KIB, b"x")
    head = f"PUT /fs/{name} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    start = time.monotonic()
    event = answer = None
    got = {client: b"", watcher.socket: b""}
    while event is None or answer is None:
        ready = selector.select(timeout=60)
        now = time.monotonic()
        assert ready, "no event within a minute"
        for key, _ in ready:
            got[key.fileobj] += key.fileobj.recv(65536)
        if event is None and f'"path":"{name}"'.encode() in got[watcher.socket]:
            event = now - start
        if answer is None and b'"version"' in got[client]:
            assert got[client].startswith(b"HTTP/1.1 201"), got[client]
            answer = now - start
    return event, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--puts", type=int, default=200, help="of each round (200)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--idle", type=int, nargs="+", default=[0, 1000], help="watchers (0 1000)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print_machine(disk_root(), MEMORY_ROOT)
    for root in (disk_root(), MEMORY_ROOT):
        with work_dir(root) as where:
            measure(root, where, options)


def measure(root, where, options):
    others = Others()
    rows = []
    syncs = Syncs(where)
    syncs.for_seconds(0.2)
    run = 0
    for idle in options.idle:
        run += 1
        with artel_node(where / f"data-{run}") as node:
            empty = node.private_bytes()
            crowd = [Watcher(node, "other/**") for _ in range(idle)]
            memory = node.private_bytes() - empty
            watcher = Watcher(node, "w/**")
            rows.append((idle, *figures(node, watcher, syncs, options, memory / max(1, idle))))
            for each in (*crowd, watcher):
                each.socket.close()
    print_table(
        (
            "idle watchers", "event, median ms", "p99 ms", "in syncs: median", "p99",
            "PUT answered, median ms", "event behind the answer, ms", "sync, median ms",
            "node's CPU us for each PUT", "KiB for each idle watcher",
        ),
        rows,
    )  # fmt: skip
    print(f"{options.rounds} rounds of {options.puts} PUTs in {root}")
    others.print()


def figures(node, watcher, syncs, options, memory):
    client = socket.create_connection(("127.0.0.1", node.port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector = selectors.DefaultSelector()
    selector.register(client, selectors.EVENT_READ)
    selector.register(watcher.socket, selectors.EVENT_READ)
    middles, highs, in_middles, in_highs, answers, behinds, sync_middles = ([] for _ in range(7))
    one_put(node, selector, client, watcher, "w/first")
    cpu = node.cpu_seconds()
    for number in range(options.rounds):
        events, bounds = [], []
        for i in range(options.puts):
            event, answer = one_put(node, selector, client, watcher, f"w/{number}/{i}")
            events.append(event)
            answers.append(answer)
            behinds.append(event - answer)
            bounds.append(syncs.once())
        middles.append(median(events))
        highs.append(percentile(events, 0.99))
        in_middles.append(median(events) / median(bounds))
        in_highs.append(percentile(events, 0.99) / median(bounds))
        sync_middles.append(median(bounds))
    cpu = (node.cpu_seconds() - cpu) / (options.rounds * options.puts)
    client.close()
    return (
        spread([each * 1e3 for each in middles]),
        spread([each * 1e3 for each in highs]),
        spread(in_middles, "{:.1f}"),
        spread(in_highs, "{:.1f}"),
        f"{median(answers) * 1e3:.2f}",
        f"{median(behinds) * 1e3:.2f}",
        f"{median(sync_middles) * 1e3:.3f}",
        f"{cpu * 1e6:.0f}",
        f"{memory / KIB:.1f}",
    )


main()
