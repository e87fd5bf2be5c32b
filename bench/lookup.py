# SPDX-License-Identifier: Apache-2.0
"""lookup: who holds a path, or an id, asked over HTTP of one of 3 and of 50 real nodes.

Each file lies at one node. One connection asks, so that the time is that of an answer and not of a
queue. "Nobody has it" is an id that no node has ever heard of: all are asked (WHOHAS) before that is
said. GET /healthz is what the same question costs without an answer to find.
"""

import argparse
import random

from lib.network import *

FILES = 1000
MISSES = 200


def publish(node, where, first, count):
    """Files of 1 KiB; gives their ids by path."""
    source = where / f"files-{node.number}"
    source.mkdir()
    for i in range(first, first + count):
        (source / f"f{i}").write_bytes(os.urandom(KIB))
    commands([ARTEL, "put", "--quiet", "--node", node.url, source, f"n{node.number}"])(None)


def listed(node):
    """{path: id} of all files."""
    answer = node.request("GET", "/fs?depth=all", headers={"Accept": "application/x-ndjson"})
    lines = map(json.loads, answer.splitlines())
    return {line["path"]: line["id"] for line in lines if line["type"] == "file"}


class Asker:
    """One connection."""

    def __init__(self, node):
        self.connection = http.client.HTTPConnection(node.host, node.port, timeout=60)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path):
        """Gives (seconds, the answer)."""
        start = time.monotonic()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        seconds = time.monotonic() - start
        if answer.status != 200:
            raise SystemExit(f"failed: {path}: {answer.status} {body[:200]}")
        return seconds, body


def asked(asker, paths, is_right):
    times = []
    for path in paths:
        seconds, body = asker.ask(path)
        if not is_right(json.loads(body) if body.startswith(b"{") else body):
            raise SystemExit(f"failed: {path}: {body[:400]}")
        times.append(seconds)
    return times


def held(body):
    return len(body["holders"]) == 1


def denied(body):
    return not body["holders"] and not body["not_asked"]


def measure(where, count, rounds, chance):
    with network(where, count) as nodes:
        publishers = nodes[1:11]
        for node in publishers:
            publish(node, where, 0, FILES // len(publishers))
        wait_equal(nodes, SOON_S)
        asker = Asker(nodes[0])
        files = listed(nodes[0])
        # All is told to those that answer for it, soon after it was published.
        for id in files.values():
            wait_until(lambda id=id: held(json.loads(asker.ask(f"/locate/{id}")[1])), "the index")
        paths = [f"/where/{path}" for path in files]
        ids = [f"/locate/{id}" for id in files.values()]
        results = {what: [] for what in ("GET /healthz", "path to holders", "id to holders", "nobody has it")}
        for _ in range(rounds):
            chance.shuffle(paths)
            chance.shuffle(ids)
            nothing = [f"/locate/{chance.randbytes(32).hex()}" for _ in range(MISSES)]
            results["GET /healthz"] += asked(asker, ["/healthz"] * len(paths), lambda body: True)
            results["path to holders"] += asked(asker, paths, held)
            results["id to holders"] += asked(asker, ids, held)
            results["nobody has it"] += asked(asker, nothing, denied)
        return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", default="3,50", help="(3,50)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--seed", type=int, default=1, help="(1)")
    options = parser.parse_args()
    enter_namespace()
    print_machine(MEMORY_ROOT)
    rows = []
    others = Others()
    for count in map(int, options.nodes.split(",")):
        with work_dir(MEMORY_ROOT) as where:
            results = measure(where, count, options.rounds, random.Random(options.seed))
        for what, times in results.items():
            rows.append(
                (count, what, len(times), f"{median(times) * 1e3:.2f}",
                 f"{percentile(times, 0.99) * 1e3:.2f}", f"{max(times) * 1e3:.2f}")
            )  # fmt: skip
    print_table(("nodes", "asked", "times", "median, ms", "p99, ms", "longest, ms"), rows)
    others.print()


main()
