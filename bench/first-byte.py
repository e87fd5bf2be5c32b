# SPDX-License-Identifier: Apache-2.0
"""first-byte: a file of 1 GiB that is at another node: time to the first byte of GET /fs/PATH.

Each time a new node asks, so that nothing of the file is there; it knows the others and has their tree.
Beside it the same file from the node that has it, and from nginx. All over loopback, in memory.
"""

import argparse

from lib.network import *

WARM_S = 1.0  # links between a new node and the others stand


def first_byte(host, port, path):
    """Gives the seconds until the status line, and until the first byte of the body."""
    with socket.create_connection((host, port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.monotonic()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        got = client.recv(64 * KIB)
        begun = time.monotonic() - start
        if not got.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"failed: {got[:400]}")
        while not got.partition(b"\r\n\r\n")[2]:
            got += client.recv(64 * KIB)
        return begun, time.monotonic() - start


def make_file(path, size):
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="(10)")
    parser.add_argument("--mib", type=int, default=1024, help="of the file (1024)")
    options = parser.parse_args()
    enter_namespace()
    need("nginx")
    print_machine(MEMORY_ROOT)
    results = {"artel, not here": [], "artel, here": [], "nginx": []}
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(work_dir(MEMORY_ROOT))
        where.chmod(0o755)
        files = where / "files"
        (files / "fs").mkdir(parents=True)
        make_file(files / "fs" / "large", options.mib * MIB)
        server = stack.enter_context(nginx(where / "nginx", files, 1))
        nodes = stack.enter_context(network(where, 2))
        commands([ARTEL, "put", "--quiet", "--node", nodes[0].url, files / "fs" / "large", "large"])(None)
        others = Others([*nodes, server])
        for number in range(options.rounds):
            node = Node(where, 10 + number)
            stack.callback(node.end)
            node.start(nodes[0])
            wait_until(lambda: node.metrics()["members_alive"] == 3, "all see all")
            wait_equal([nodes[0], node], SOON_S)
            time.sleep(WARM_S)
            results["artel, not here"].append(first_byte(node.host, node.port, "/fs/large"))
            results["artel, here"].append(first_byte(nodes[0].host, nodes[0].port, "/fs/large"))
            results["nginx"].append(first_byte(server.host, server.port, "/fs/large"))
            node.end(signal.SIGTERM)
            wait_until(lambda: nodes[0].metrics()["members_alive"] == 2, "it has left")
            remove(node.data)
            progress(f"round {number + 1}: {results['artel, not here'][-1][1] * 1e3:.1f} ms")
        progress("")
        rows = [
            (name, spread([begun * 1e3 for begun, _ in each]), spread([byte * 1e3 for _, byte in each]))
            for name, each in results.items()
        ]
        print_table(("from", "status line, ms", "first byte of the body, ms"), rows)
        others.print()


main()
