# SPDX-License-Identifier: Apache-2.0
"""membership: who notices what, how soon and at what cost; simulated, and with real processes.

Simulated: artel and the SWIM baseline (memberlist's parameters for a local network) live the same
stories with the same seeds. Real: artel and, if it is installed, Debian's serf with its profile for a
local network, one after the other; each in a network namespace of its own, on the addresses 127.0.1.x
of its loopback, whose counter of bytes holds all that its nodes send, headers of IP and UDP or TCP
included. What a node sees is read from its log, as it comes. Last, artel alone with more nodes.

A namespace needs root, or user namespaces.
"""

import argparse
import random
import re
import selectors

from lib.nodes import *

SIM_SEEDS = {50: 5, 100: 5, 1000: 3, 10000: 1}
PROTOCOLS = ("artel", "swim")
# scenario, its figure, what it is called, unit, how the seeds are put together, wanted by nodes
FIGURES = (
    ("crash", "noticed-by-all-p50", "crash noticed by all, p50", "s", statistics.median, (2, 2, 2)),
    ("crash", "noticed-by-all-p99", "crash noticed by all, p99", "s", max, (3.5, 3.5, 4)),
    ("idle", "out-per-node", "idle, sent by a node", "B/s", statistics.median, (500, 500, 500)),
    ("idle", "in-per-node", "idle, received by a node", "B/s", statistics.median, (500, 500, 500)),
    ("cold-start", "cold-start", "cold start through one seed", "s", max, (5, 10, 20)),
    ("partition", "halves-healed", "equal views after halves heal", "s", max, (10, 10, 15)),
)  # fmt: skip
WANTED_AT = (100, 1000, 10000)

SOON_S = 120
REST_S = 5  # from all see all until the next kill, at least
HEADERS_BYTES = 28  # of IP and UDP
PERIOD_S = 2  # a kill comes at any point of anybody's period


# ---- simulated ----------------------------------------------------------------------------------


def simulate(scenario, nodes):
    """{protocol: {figure: values, one for each seed}}; a figure that never came to be is missing."""
    words = [ARTEL, "sim", scenario, "--nodes", nodes, "--seeds", SIM_SEEDS[nodes],
             "--protocol", "both", "--json"]  # fmt: skip
    progress(f"{scenario}, {nodes} nodes")
    # Its exit status tells whether artel kept within its limits, and so does the table.
    run = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    progress("")
    results = {protocol: {} for protocol in PROTOCOLS}
    for line in run.stdout.splitlines():
        result = json.loads(line)
        for name, figure in result["figures"].items():
            results[result["protocol"]].setdefault(name, []).append(figure["value"])
    if not all(results.values()):
        raise SystemExit(f"failed: artel sim {scenario}\n{run.stderr}")
    return results


def shown(values, combine, count):
    if not values:
        return "never"
    form = "{:.0f}" if max(values) >= 100 else "{:.2f}"
    text = form.format(combine(values))
    return text if len(values) == count else f"{text} ({len(values)} of {count})"


def print_simulated(sizes):
    for nodes in sizes:
        results = {name: simulate(name, nodes) for name in dict.fromkeys(row[0] for row in FIGURES)}
        rows = []
        for scenario, figure, text, unit, combine, wanted in FIGURES:
            cells = [
                shown(results[scenario][protocol].get(figure, []), combine, SIM_SEEDS[nodes])
                for protocol in PROTOCOLS
            ]
            rows.append((f"{text}, {unit}", *cells, wanted[WANTED_AT.index(nodes)]))
        print(f"simulated, {nodes} nodes, {SIM_SEEDS[nodes]} seeds")
        print_table(("what", *PROTOCOLS, "wanted of artel"), rows)


# ---- real nodes ---------------------------------------------------------------------------------


class Member(Server):
    """A process with an address of its own, that logs whom it sees come and go."""

    def __init__(self, where, number):
        super().__init__(None, 7420, f"127.0.1.{number}")
        self.where, self.number = where, number
        self.output = b""
        self.seen = {}  # number: when it was last seen to be there or to be gone, and which

    def start(self):
        self.seen, self.output = {}, b""
        self.process = subprocess.Popen(
            [str(word) for word in self.words()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self):
        """Takes what it has logged; False at its end."""
        piece = self.process.stdout.read()
        if piece == b"":
            return False
        now = time.monotonic()
        *lines, self.output = (self.output + (piece or b"")).split(b"\n")
        for line in lines:
            for pattern, here in self.LINES:
                if found := re.search(pattern, line):
                    self.seen[int(found[1])] = (now, here)
        return True

    def seen_count(self):
        return sum(here for _, here in self.seen.values())

    def lost_at(self, number):
        when, here = self.seen.get(number, (None, True))
        return None if here else when


class ArtelMember(Member):
    LINES = (
        (rb"event=member_(?:joined|alive) .*name=n(\d+) ", True),
        (rb"event=member_(?:unreachable|left) .*name=n(\d+) ", False),
    )

    def words(self):
        words = [ARTEL, "node", "--data", self.where / str(self.number), "--scrub-rate", "0",
                 "--name", f"n{self.number}", "--listen", f"{self.host}:7420"]  # fmt: skip
        return words if self.number == 1 else [*words, "--join", "127.0.1.1:7420"]

    def sees(self, count):
        """Asked, as a node logs no more than 50 events in a second."""
        if self.seen_count() >= count - 1:
            return True
        if b"" != self.output or time.monotonic() < getattr(self, "ask_again", 0):
            return False
        self.ask_again = time.monotonic() + 0.2
        with contextlib.suppress(OSError):
            members = json.loads(self.request("GET", "/members"))
            return sum(member["state"] == "alive" for member in members) == count
        return False

    def counted_bytes(self):
        """Of datagrams that it sent, by its own count, with the headers of IP and UDP."""
        text = self.request("GET", "/metrics").decode()
        values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
        return int(values["artel_member_datagram_bytes_sent_total"]) + HEADERS_BYTES * int(
            values["artel_member_datagrams_sent_total"]
        )


class SerfMember(Member):
    LINES = (
        (rb"EventMemberJoin: n(\d+) ", True),
        (rb"EventMember(?:Failed|Leave): n(\d+) ", False),
    )

    def words(self):
        words = ["serf", "agent", f"-node=n{self.number}", f"-bind={self.host}:7946",
                 f"-rpc-addr={self.host}:7373", "-profile=lan"]  # fmt: skip
        return words if self.number == 1 else [*words, "-join=127.0.1.1:7946"]

    def sees(self, count):
        return self.seen_count() >= count  # it logs itself too


class Crowd:
    def __init__(self, kind, where, count):
        self.members = [kind(where, number) for number in range(1, count + 1)]
        self.selector = selectors.DefaultSelector()

    def start(self, member):
        member.start()
        self.selector.register(member.process.stdout, selectors.EVENT_READ, member)

    def kill(self, member):
        """Gives the moment."""
        self.selector.unregister(member.process.stdout)
        now = time.monotonic()
        member.process.kill()
        member.process.wait()
        member.process.stdout.close()
        member.process = None
        return now

    def end(self):
        for member in self.members:
            if member.process:
                self.kill(member)

    def read_logs(self, seconds):
        """Reads what comes within a moment, `seconds` at most."""
        for key, _ in self.selector.select(seconds):
            if not key.data.read():
                raise SystemExit(f"failed: {key.data.host} has ended\n{key.data.output.decode()}")

    def watch(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read_logs(left)

    def wait(self, condition, members, what):
        """Until it is true of each; gives when that was."""
        deadline = time.monotonic() + SOON_S
        missing = list(members)
        while missing := [member for member in missing if not condition(member)]:
            if time.monotonic() > deadline:
                raise SystemExit(f"failed: {what}: {missing[0].host} after {SOON_S} s")
            self.read_logs(0.02)
        return time.monotonic()

    def kill_one(self):
        """From its death until all others have noticed; then it comes back."""
        self.watch(REST_S + random.random() * PERIOD_S)
        victim = random.choice(self.members[1:])
        left = [member for member in self.members if member is not victim]
        for member in left:
            member.seen.pop(victim.number, None)
        begin = self.kill(victim)
        self.wait(lambda member: member.lost_at(victim.number), left, "a kill")
        times = [member.lost_at(victim.number) - begin for member in left]
        self.start(victim)
        self.wait(lambda member: member.seen[victim.number][1], left, "it is back")
        self.wait(lambda member: member.sees(len(self.members)), [victim], "it sees all")
        progress(f"a kill: {max(times):.2f} s")
        return {"first": min(times), "all": max(times)}


def measure_idle(crowd, settle, seconds):
    """All read before and after; nobody is asked anything meanwhile."""
    count = len(crowd.members)
    crowd.watch(settle)
    counts = hasattr(crowd.members[0], "counted_bytes")
    counted = sum(member.counted_bytes() for member in crowd.members) if counts else 0
    crowd.watch(1)  # the connections that this took are gone
    others = Others(crowd.members)
    cpu = [member.cpu_seconds() for member in crowd.members]
    size, begin = loopback_bytes(), time.monotonic()
    crowd.watch(seconds)
    size, took = loopback_bytes() - size, time.monotonic() - begin
    cpu = [member.cpu_seconds() - before for member, before in zip(crowd.members, cpu)]
    memory = [member.private_bytes() for member in crowd.members]
    result = {
        "bytes_per_s": size / took / count,
        "cpu_percent": [100 * each / took for each in cpu],
        "memory_mib": [each / MIB for each in memory],
        "others": others.share(),
    }
    if counts:
        took = time.monotonic() - begin + 1
        counted = sum(member.counted_bytes() for member in crowd.members) - counted
        result["counted_per_s"] = counted / took / count
    return result


def run_inside(tool, options):
    """In the namespace: prints what was measured as JSON."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    kind = ArtelMember if tool == "artel" else SerfMember
    with work_dir(MEMORY_ROOT) as where:
        crowd = Crowd(kind, where, options.nodes)
        try:
            for member in crowd.members:
                crowd.start(member)
                if member.number == 1:
                    crowd.watch(1)  # the others shall find it
            begin = time.monotonic()
            start = crowd.wait(
                lambda member: member.sees(options.nodes), crowd.members, "all see all"
            )
            result = {"start": start - begin}
            result.update(measure_idle(crowd, options.settle, options.idle))
            result["kills"] = [crowd.kill_one() for _ in range(options.kills)]
            result["load"] = pathlib.Path("/proc/loadavg").read_text().split()[0]
        finally:
            crowd.end()
    print(json.dumps(result))


def in_namespace(tool, nodes, kills, options):
    """Runs this script again in a network namespace; gives what it measured."""
    words = [*namespace_words(), sys.executable, "-B", __file__, "--inside", tool, "--nodes", nodes,
             "--kills", kills, "--settle", options.settle, "--idle", options.idle]  # fmt: skip
    out = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    progress("")
    if out.returncode:
        raise SystemExit(f"failed: {nodes} nodes of {tool}")
    return json.loads(out.stdout.splitlines()[-1])


def real_rows(results):
    def of_kills(name, combine):
        return [
            f"{combine([kill[name] for kill in result['kills']]):.2f}" if result["kills"] else "-"
            for result in results
        ]

    def of_nodes(name, form):
        return [f"{form.format(median(r[name]))}, {form.format(max(r[name]))}" for r in results]

    return [
        ("last start to all see all, s", *(f"{r['start']:.2f}" for r in results)),
        ("kill noticed by all, median, s", *of_kills("all", median)),
        ("kill noticed by all, longest, s", *of_kills("all", max)),
        ("kill noticed by the first, median, s", *of_kills("first", median)),
        ("idle, all that a node sends, B/s (lo)", *(f"{r['bytes_per_s']:.0f}" for r in results)),
        (
            "of it datagrams, B/s (its own count)",
            *(f"{r['counted_per_s']:.0f}" if "counted_per_s" in r else "-" for r in results),
        ),
        ("idle, CPU of a node, %: median, most", *of_nodes("cpu_percent", "{:.3f}")),
        ("private memory of a node, MiB: median, most", *of_nodes("memory_mib", "{:.1f}")),
        ("others' share of the processors while idle", *(f"{r['others']:.0%}" for r in results)),
        ("load average at the end", *(r["load"] for r in results)),
    ]


def print_real(options):
    tools = ["artel"] + (["serf"] if shutil.which("serf") else [])
    if len(tools) == 1:
        print("serf is not installed (apt-get install serf): artel only\n")
    results = [in_namespace(tool, options.nodes, options.kills, options) for tool in tools]
    print(f"{options.nodes} real nodes, {options.kills} kills, idle for {options.idle} s")
    print_table(("what", *tools), real_rows(results))

    simulated = simulate("crash", options.nodes)
    rows = []
    for result, protocol, tool in zip(results, PROTOCOLS, tools):
        times = [kill["all"] for kill in result["kills"]]
        for text, real, figure, combine in (
            ("median", median(times), "noticed-by-all-p50", median),
            ("longest, p99", max(times), "noticed-by-all-p99", max),
        ):
            bound = combine(simulated[protocol][figure])
            rows.append((f"{tool}, {text}", f"{real:.2f}", f"{bound:.2f}", f"{real / bound:.2f}"))
    print(f"kill noticed by all, {options.nodes} nodes; simulated: {SIM_SEEDS[options.nodes]} seeds")
    print_table(("what", "real, s", "simulated, s", "real : simulated"), rows)


def print_alone(options):
    result = in_namespace("artel", options.alone, 0, options)
    print(f"{options.alone} real nodes of artel, idle for {options.idle} s")
    print_table(("what", "artel"), [row for row in real_rows([result]) if row[1] != "-"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("simulated", "real", "alone"), help="this part (all)")
    parser.add_argument("--large", action="store_true", help="simulate 10,000 nodes too: 8 GiB, an hour")
    parser.add_argument("--nodes", type=int, default=50, help="real ones (50)")
    parser.add_argument("--alone", type=int, default=100, help="real ones of artel alone (100)")
    parser.add_argument("--kills", type=int, default=7, help="(7)")
    parser.add_argument("--idle", type=int, default=30, help="seconds (30)")
    parser.add_argument(
        "--settle", type=int, default=20, help="seconds from all see all to the idle ones (20)"
    )
    parser.add_argument("--inside", choices=("artel", "serf"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    SIM_SEEDS.setdefault(options.nodes, 5)
    if options.inside:
        run_inside(options.inside, options)
        return
    print_machine(MEMORY_ROOT)
    if options.only in (None, "simulated"):
        print_simulated([100, 1000] + ([10000] if options.large else []))
    if options.only in (None, "real"):
        print_real(options)
    if options.only in (None, "alone"):
        print_alone(options)


main()
