# SPDX-License-Identifier: Apache-2.0
"""link: blocks of 1 MiB from one node to another over one connection, against nginx and curl.

The bytes lie in memory at the source, in a store or in files. What comes is dropped unseen (`curl -o
/dev/null`), or hashed (`curl | openssl dgst -sha256`), or, by us alone, hashed and taken into a store. nginx
has one worker and sends by sendfile, as it is in the other benchmarks; curl asks for all the files
over one connection that is kept. Processor time is that of both processes together.
"""

import argparse
import json

from lib.common import *
from lib.nodes import *

PROGRAM = BUILD_DIR / "bench" / "bench_link_blocks"
OURS = {"drop": "artel, dropped", "hash": "artel, hashed", "keep": "artel, hashed and kept"}
DROPPED, HASHED = "nginx + curl, dropped", "nginx + curl, hashed"


@dataclasses.dataclass
class Run:
    bytes: int
    seconds: float
    source_cpu: float
    receiver_cpu: float

    @property
    def per_core(self):
        return self.bytes / (self.source_cpu + self.receiver_cpu)


def artel(where, mode, block_bytes, count, rounds):
    """All rounds but the first, in which memory is mapped for the first time."""
    target = where / "artel"
    target.mkdir()
    words = [PROGRAM, target, block_bytes, count, rounds + 1, mode]
    result = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, text=True)
    remove(target)
    if result.returncode:
        raise SystemExit(f"failed: {PROGRAM}")
    lines = [json.loads(line) for line in result.stdout.splitlines()][1:]
    return [
        Run(line["bytes"], line["seconds"], line["source_cpu_seconds"], line["cpu_seconds"])
        for line in lines
    ]


def curl(server, count, block_bytes, hashes):
    url = f"{server.url}/block-[1-{count}]"
    line = f"curl -sSf '{url}' -o /dev/null" if not hashes else f"curl -sSf '{url}' | openssl dgst -sha256"
    begin, cpu, server_cpu = time.monotonic(), children_seconds(), server.cpu_seconds()
    subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL)
    return Run(
        count * block_bytes,
        time.monotonic() - begin,
        server.cpu_seconds() - server_cpu,
        children_seconds() - cpu,
    )


def make_files(where, count, block_bytes):
    where.mkdir()
    where.chmod(0o755)
    for number in range(1, count + 1):
        (where / f"block-{number}").write_bytes(os.urandom(block_bytes))


def measure(where, options):
    block_bytes, count = options.kibibytes * KIB, options.mebibytes * KIB // options.kibibytes
    runs = {name: [] for name in (*OURS.values(), DROPPED, HASHED)}
    make_files(where / "files", count, block_bytes)
    with nginx(where / "nginx", where / "files", 1) as server:
        others = Others([server])
        curl(server, count, block_bytes, False)  # warm
        for number in range(options.rounds):
            for mode, name in OURS.items():
                runs[name] += artel(where, mode, block_bytes, count, 2)[:1]
            runs[DROPPED].append(curl(server, count, block_bytes, False))
            runs[HASHED].append(curl(server, count, block_bytes, True))
            progress(f"round {number + 1} of {options.rounds}")
        progress("")
        return runs, others.share()


def print_results(runs):
    rows = []
    for name, each in runs.items():
        base = runs[DROPPED if name.endswith("dropped") else HASHED]
        per_byte = lambda key: spread([getattr(run, key) / run.bytes * 1e9 for run in each])
        rows.append(
            [
                name,
                spread([run.bytes / run.seconds / 1e9 for run in each]),
                per_byte("source_cpu"),
                per_byte("receiver_cpu"),
                spread([run.per_core / 1e9 for run in each]),
                spread([run.per_core / other.per_core for run, other in zip(each, base)]),
            ]
        )
    print_table(
        (
            "what", "GB/s", "source's CPU s per GB", "receiver's CPU s per GB", "GB/s per core",
            "of nginx + curl's",
        ),
        rows,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="(7)")
    parser.add_argument("--mebibytes", type=int, default=512, help="in a round (512)")
    parser.add_argument("--kibibytes", type=int, default=1024, help="of a block (1024)")
    options = parser.parse_args()
    need("nginx", "curl", "openssl")
    print_machine(MEMORY_ROOT)
    with work_dir(MEMORY_ROOT) as where:
        where.chmod(0o755)
        runs, share = measure(where, options)
    print(f"{options.mebibytes} MiB in blocks of {options.kibibytes} KiB, {options.rounds} rounds")
    print_results(runs)
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    print(f"others used {share:.0%} of the processors meanwhile; load average {load}\n")


main()
