# SPDX-License-Identifier: Apache-2.0
"""get: files over HTTP from a node, against nginx with sendfile on the same content.

Files of 1 GiB (curl) and of 1 MiB (wrk, 4 connections), in bytes/s and in bytes per second of the
server's processor time; files of 4 KiB (wrk, 32 connections, keep-alive) in requests/s. Everything
is in the page cache.
"""

import argparse

from lib.nodes import *

LARGE = ("large", 1 * GIB, 1)
MEDIUM = ("medium", 1 * MIB, 64)
SMALL = ("small", 4 * KIB, 1000)
SIZES = ("1 GiB", "1 MiB", "4 KiB")


def make_files(files):
    for name, size, count in (LARGE, MEDIUM, SMALL):
        directory = files / "fs" / name
        directory.mkdir(parents=True)
        for i in range(count):
            with open(directory / str(i), "wb") as file:
                for _ in range(max(1, size // MIB)):
                    file.write(os.urandom(min(size, MIB)))


def get_large(server):
    cpu, start = server.cpu_seconds(), time.monotonic()
    commands(["curl", "-fsS", "-o", "/dev/null", f"{server.url}/fs/large/0"])(None)
    seconds = time.monotonic() - start
    return Load(1, GIB, seconds, seconds, seconds, server.cpu_seconds() - cpu)


def get_many(server, where, kind, connections, seconds):
    name, _, count = kind
    return wrk(
        server, where, f'return wrk.format("GET", "/fs/{name}/" .. n % {count})', connections, seconds
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=SIZES, help="files of this size (all)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each run of wrk (3)")
    options = parser.parse_args()
    need("nginx", "wrk", "curl")
    print_machine(MEMORY_ROOT)
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(work_dir(MEMORY_ROOT))
        where.chmod(0o755)
        files = where / "files"
        make_files(files)
        node = stack.enter_context(artel_node(where / "data"))
        commands([ARTEL, "put", "--quiet", "--node", node.url, files / "fs" / "large", "large"])(None)
        for kind in ("medium", "small"):
            source = files / "fs" / kind
            commands([ARTEL, "put", "--quiet", "--node", node.url, source, kind])(None)
        servers = {
            "artel": node,
            "nginx, 1 worker": stack.enter_context(nginx(where / "nginx-1", files, 1)),
            "nginx, 2 workers": stack.enter_context(nginx(where / "nginx-2", files, 2)),
        }
        measure(servers, where, options)


def measure(servers, where, options):
    loads = (
        get_large,
        lambda server: get_many(server, where, MEDIUM, 4, options.seconds),
        lambda server: get_many(server, where, SMALL, 32, options.seconds),
    )
    for size, load in zip(SIZES, loads):
        if options.only not in (None, size):
            continue
        others = Others(servers.values())
        results = {name: [] for name in servers}
        for server in servers.values():
            load(server)  # warm
        for _ in range(options.rounds):
            for name, server in servers.items():
                results[name].append(load(server))
        print(f"files of {size}, {options.rounds} rounds in turn")
        print_results(results)
        others.print()


def per_core(load):
    return load.bytes / load.cpu_seconds


def print_results(results):
    rows = []
    base = results["nginx, 1 worker"]
    for name, loads in results.items():
        rates = [load.bytes / load.seconds for load in loads]
        rows.append(
            (
                name,
                spread([rate / 1e6 for rate in rates], "{:.0f}"),
                spread([load.rate for load in loads], "{:.1f}"),
                f"{median([load.rate / other.rate for load, other in zip(loads, base)]):.2f}",
                spread([load.cpu_seconds / load.bytes * 1e9 for load in loads], "{:.2f}"),
                f"{median([per_core(load) / per_core(other) for load, other in zip(loads, base)]):.2f}",
                f"{median([load.cpu_seconds / load.requests for load in loads]) * 1e6:.1f}",
                f"{median([load.median for load in loads]) * 1e3:.2f}",
                f"{median([load.p99 for load in loads]) * 1e3:.2f}",
            )
        )
    print_table(
        (
            "server", "MB/s", "requests/s", "of nginx's", "its CPU s per GB",
            "bytes/s per core, of nginx's", "its CPU us per request", "median ms", "p99 ms",
        ),
        rows,
    )  # fmt: skip


main()
