# SPDX-License-Identifier: Apache-2.0
"""Machines with links of a given rate: each a network namespace behind a bridge, shaped both ways.

All of it lives in the network namespace that enter_namespace() made, and goes with it. Needs root, or
user namespaces.
"""

from lib.network import *

LATENCY_MS = 40
BURST_KIB = 128


class Links:
    """`count` machines, the first with the number 0. `mbit`: the rate of each link, 0 for no bound."""

    def __init__(self, count, mbit=0):
        self.holders = []
        self.ip("link", "add", "br0", "type", "bridge")
        self.ip("link", "set", "br0", "up")
        for number in range(count):
            self.add(number, mbit)

    def ip(self, *words):
        subprocess.run(["ip", *map(str, words)], check=True)

    def add(self, number, mbit):
        # The namespace lasts as long as the process that stands in it.
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.holders.append(holder)
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own, "a namespace")
        self.ip("link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", holder.pid)
        self.ip("link", "set", f"p{number}", "master", "br0", "up")
        inside = self.words(number)
        for words in (("ip", "link", "set", "lo", "up"),
                      ("ip", "address", "add", f"{self.address(number)}/16", "dev", "eth0"),
                      ("ip", "link", "set", "eth0", "up")):  # fmt: skip
            subprocess.run([*inside, *words], check=True)
        if mbit:
            shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", f"{BURST_KIB}kb",
                     "latency", f"{LATENCY_MS}ms")  # fmt: skip
            subprocess.run(["tc", "qdisc", "add", "dev", f"p{number}", *shape], check=True)
            subprocess.run([*inside, "tc", "qdisc", "add", "dev", "eth0", *shape], check=True)

    def address(self, number):
        return f"10.77.{number // 200}.{number % 200 + 1}"

    def words(self, number):
        """What runs a command line on a machine."""
        return ["nsenter", f"--net=/proc/{self.holders[number].pid}/ns/net"]

    def sent_bytes(self, number):
        """Over its link, headers of all layers included."""
        path = pathlib.Path(f"/sys/class/net/p{number}/statistics/rx_bytes")
        if not path.exists():
            return self.counted(number)
        return int(path.read_text())

    def counted(self, number):
        """/sys shows the devices of the namespace in which it was mounted."""
        out = subprocess.run(["ip", "-j", "-s", "link", "show", f"p{number}"], capture_output=True)
        return json.loads(out.stdout)[0]["stats64"]["rx"]["bytes"]

    def close(self):
        for number, holder in enumerate(self.holders):
            holder.kill()
            holder.wait()
            subprocess.run(["ip", "link", "del", f"p{number}"], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", "br0"], stderr=subprocess.DEVNULL)
