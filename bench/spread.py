# SPDX-License-Identifier: Apache-2.0
"""spread: from a PUT at one node to its event at a watcher at each other node.

The clock starts before a PUT of a small file is given to the kernel, so the time holds all work and the
syncs of the PUT itself, and those of the nodes that it reaches. One PUT at a time, with a pause of up
to 20 ms before it; and once without, since a node gathers changes of which there are more than it
broadcasts at once. On the disk each PUT is followed by a write of 4 KiB with fdatasync in the same
file system, and times are also given in multiples of the median of those. "Event" is over all watchers,
"last" over the PUTs: the moment in which every node has told.

Beside it: syncthing, told by its API of each file, until the file is in the directories of the others;
and redis pub/sub, which carries the name and keeps nothing. And artel in the simulator, if told so.
"""

import argparse
import random
import selectors

from lib.network import *
from lib.syncthing import Arrivals, FOLDER, KEY, syncthing_network

BODY_BYTES = 16
PAUSE_S = 0.02  # between two changes, at most
EVENT_S = 20
SIM_SEEDS = {1000: 3, 10000: 1}
# figure, what it is called, wanted, ms
SIM_FIGURES = (
    ("clean-last-p50", "one network, p50", ""),
    ("clean-last-p99", "one network, p99", 100),
    ("lossy-last-p50", "5% of datagrams lost, p50", ""),
    ("lossy-last-p99", "5% of datagrams lost, p99", 700),
    ("zones-last-p50", "five zones 40 ms apart, p50", ""),
    ("zones-last-p99", "five zones 40 ms apart, p99", 700),
)


class Times:
    """Of each event, and of the last of each change, in seconds."""

    def __init__(self):
        self.events, self.lasts, self.syncs = [], [], []

    def add(self, each):
        self.events += each
        self.lasts.append(max(each))

    def cells(self):
        cells = []
        for values in (self.events, self.lasts):
            for value in (median(values), percentile(values, 0.99)):
                cells.append(f"{value * 1e3:.2f}" if value > 1e-3 else f"{value * 1e3:.3f}")
        if not self.syncs:
            return [*cells, "", ""]
        sync = median(self.syncs)
        in_syncs = (
            f"{median(values) / sync:.1f}, {percentile(values, 0.99) / sync:.1f}"
            for values in (self.events, self.lasts)
        )
        return [*cells, f"{sync * 1e3:.3f}", "; ".join(in_syncs)]


HEADINGS = ("what", "event, ms: p50", "p99", "last, ms: p50", "p99", "one sync, ms",
            "in syncs: event p50, p99; last")  # fmt: skip


# ---- artel, redis -------------------------------------------------------------------------------


def until_all(selector, sockets, needle):
    """Gives the moments in which `needle` had come on each of the sockets; others are drained."""
    got, moments = {each: b"" for each in sockets}, []
    while got:
        ready = selector.select(timeout=EVENT_S)
        now = time.monotonic()
        if not ready:
            raise SystemExit(f"failed: {len(got)} of {len(sockets)} have no event in {EVENT_S} s")
        for key, _ in ready:
            piece = key.fileobj.recv(65536)
            if not piece:
                raise SystemExit("failed: a connection has ended")
            if key.fileobj in got:
                got[key.fileobj] += piece
                if needle in got[key.fileobj]:
                    moments.append(now)
                    del got[key.fileobj]
    return moments


def connection_to(server):
    client = socket.create_connection((server.host, server.port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def measure(sockets, client, request, needle, changes, pause, syncs=None):
    """`request` and `needle` give bytes for the number of a change; the answer of a request comes
    before the next, and up to `pause` seconds go by."""
    selector = selectors.DefaultSelector()
    for each in sockets:
        selector.register(each, selectors.EVENT_READ)
    times = Times()
    for number in range(-changes // 10, changes):
        time.sleep(random.random() * pause)
        begin = time.monotonic()
        client.sendall(request(number))
        moments = until_all(selector, sockets, needle(number))
        answer = client.recv(65536)
        if b"HTTP/1.1 4" in answer or b"HTTP/1.1 5" in answer:
            raise SystemExit(f"failed: {answer}")
        sync = syncs.once() if syncs else None
        if number < 0:
            continue  # everybody is warm then
        times.add([moment - begin for moment in moments])
        if syncs:
            times.syncs.append(sync)
    selector.close()
    return times


def artel(where, count, changes, pause, with_syncs):
    with network(where, count) as nodes:
        watchers = [Watcher(node, "w/**") for node in nodes[1:]]
        client = connection_to(nodes[0])

        def request(number):
            head = f"PUT /fs/w/{number} HTTP/1.1\r\nHost: node\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
            return head.encode() + str(number).encode().ljust(BODY_BYTES)

        def needle(number):
            return f'"path":"w/{number}"'.encode()

        syncs = Syncs(where) if with_syncs else None
        cpu = sum(node.cpu_seconds() for node in nodes)
        sockets = [watcher.socket for watcher in watchers]
        times = measure(sockets, client, request, needle, changes, pause, syncs)
        cpu = (sum(node.cpu_seconds() for node in nodes) - cpu) / (changes * 11 // 10) / count
        broadcasts = nodes[0].metrics()["tree_broadcasts_total"]
        pulls = sum(node.metrics()["tree_pulls_total"] for node in nodes)
        client.close()
        for each in sockets:
            each.close()
        note = f"CPU of a node for each change {cpu * 1e6:.0f} us"
        note += f"; {broadcasts:.0f} broadcasts, {pulls:.0f} pulls"
        return times, note


def redis(where, count, changes):
    port = free_port()
    words = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", where]

    def ready(process):
        wait_until(lambda: b"Ready to accept" in process.stdout.readline(), "redis starts", pause=0)

    with running([str(word) for word in words], port, ready) as server:
        sockets = [connection_to(server) for _ in range(count - 1)]
        for each in sockets:
            each.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n")
            each.recv(4096)
        client = connection_to(server)

        def request(number):
            name = f"w/{number}"
            return f"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n${len(name)}\r\n{name}\r\n".encode()

        def needle(number):
            return f"\r\nw/{number}\r\n".encode()

        times = measure(sockets, client, request, needle, changes, PAUSE_S)
        for each in (*sockets, client):
            each.close()
    return times


# ---- syncthing ----------------------------------------------------------------------------------


def syncthing(where, count, changes):
    with syncthing_network(where, count) as nodes:
        arrivals = Arrivals([node.folder for node in nodes[1:]])
        selector = selectors.DefaultSelector()
        selector.register(arrivals, selectors.EVENT_READ)
        client = connection_to(nodes[0])
        times = Times()
        for number in range(-changes // 10, changes):
            name = f"f{number}"
            (nodes[0].folder / name).write_bytes(str(number).encode().ljust(BODY_BYTES))
            head = f"POST /rest/db/scan?folder={FOLDER}&sub={name} HTTP/1.1\r\nHost: {nodes[0].host}\r\n"
            head += "".join(f"{key}: {value}\r\n" for key, value in KEY.items())
            begin = time.monotonic()
            client.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
            moments = []
            while len(moments) < count - 1:
                if not selector.select(timeout=EVENT_S):
                    raise SystemExit(f"failed: syncthing brought nothing in {EVENT_S} s")
                now = time.monotonic()
                moments += [now for arrived in arrivals.read() if arrived == name]
            client.recv(65536)
            if number >= 0:
                times.add([moment - begin for moment in moments])
            time.sleep(0.35)  # it gathers changes; one of them shall not wait for the one before
        client.close()
    return times


# ---- simulated ----------------------------------------------------------------------------------


def simulated(sizes):
    rows = []
    for nodes in sizes:
        progress(f"simulated, {nodes} nodes")
        words = [ARTEL, "sim", "tree-spread", "--nodes", nodes, "--seeds", SIM_SEEDS[nodes], "--json"]
        run = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        results = [json.loads(line)["figures"] for line in run.stdout.splitlines()]
        if not results:
            raise SystemExit(f"failed: artel sim tree-spread\n{run.stderr}")
        progress("")
        for name, text, wanted in SIM_FIGURES:
            values = [result[name]["value"] for result in results if name in result]
            if values:
                rows.append((nodes, text, spread([each * 1e3 for each in values], "{:.0f}"), wanted))
    print("simulated: median of the seeds (lowest to highest)")
    print_table(("nodes", "last node, ms", "simulated", "wanted"), rows)


# ---- all ----------------------------------------------------------------------------------------


def run_artel(options):
    for root in (MEMORY_ROOT, disk_root()):
        rows, notes = [], []
        others = Others()
        for count, pause in ((count, pause) for count in options.nodes for pause in (PAUSE_S, 0)):
            changes = options.changes if count <= 10 else max(20, options.changes // 4)
            with work_dir(root) as where:
                times, note = artel(where, count, changes, pause, root is not MEMORY_ROOT)
            name = f"artel, {count} nodes" + ("" if pause else ", no pauses")
            rows.append((name, *times.cells()))
            notes.append(f"{name}: {changes} changes, {note}")
        print_table(HEADINGS, rows)
        print(f"{root}: {file_system(root)}\n" + "\n".join(notes))
        others.print()


def run_peers(options):
    rows, others = [], Others()
    for name, run, count, changes in (
        ("syncthing, told by API", syncthing, 2, options.peer_changes),
        ("syncthing, told by API", syncthing, 8, options.peer_changes),
        ("redis pub/sub", redis, 2, options.changes),
        ("redis pub/sub", redis, 8, options.changes),
    ):
        if not shutil.which(name.split()[0].strip(",").replace("redis", "redis-server")):
            print(f"{name}: not installed (apt-get install syncthing redis-server)")
            continue
        with work_dir(MEMORY_ROOT) as where:
            rows.append((f"{name}, {count} nodes", *run(where, count, changes).cells()[:5]))
    print_table(HEADINGS[:6], rows)
    others.print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("real", "peers", "simulated"), help="this part (real, peers)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 50], help="(8 50)")
    parser.add_argument("--changes", type=int, default=200, help="a quarter for many nodes (200)")
    parser.add_argument("--peer-changes", type=int, default=20, help="of syncthing (20)")
    parser.add_argument("--large", action="store_true", help="simulate 1,000 and 10,000 nodes: 5 GiB, 10 minutes")
    options = parser.parse_args()
    enter_namespace()
    print_machine(MEMORY_ROOT, disk_root())
    if options.only in (None, "real"):
        run_artel(options)
    if options.only in (None, "peers"):
        run_peers(options)
    if options.only == "simulated" or options.large:
        simulated([1000] + ([10000] if options.large else []))


main()
