# SPDX-License-Identifier: Apache-2.0
"""Nodes of artel on machines with shaped links, and requests to them from outside, over the bridge
between the links."""

import http.client

from lib.swarm import *

OUTSIDE = "10.77.255.254/16"


class Machines(Artel):
    """Nodes 0 to `count`, which know each other; `mbit` is the rate of each link."""

    def __init__(self, where, count, mbit):
        self.all_links = Links(count + 1, mbit)
        self.all_links.ip("address", "add", OUTSIDE, "dev", "br0")
        super().__init__(where, self.all_links, count, True)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.end()
        self.all_links.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def node(self, number):
        return self.processes[number].popen

    def connect(self, number):
        return http.client.HTTPConnection(self.links.address(number), PORT, timeout=SOON_S)

    def request(self, number, method, path, body=None):
        connection = self.connect(number)
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def metrics(self, number):
        """{name without artel_: number}"""
        text = self.request(number, "GET", "/metrics")[1].decode()
        pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("artel_"): int(value) for name, value in pairs}

    def here_bytes(self, number):
        """Of the file that was published last; 0 while it is not known there."""
        status, data = self.request(number, "GET", f"/why/{self.source.name}")
        told = json.loads(data) if status == 200 else {}
        return told.get("here", told["length"] if told.get("state") in ("done", "here") else 0)

    def wait_known(self, numbers):
        for number in numbers:
            wait_until(lambda: self.request(number, "GET", f"/why/{self.source.name}")[0] == 200,
                       "the entry is known")  # fmt: skip

    def get_all(self, numbers, during=None):
        """Seconds until the last of these has a copy that is right. `during` is called meanwhile,
        again and again, with those that have none yet."""
        wanted = digest(self.source)
        begin = time.monotonic()
        for number in numbers:
            self.go(number)
        left, last = set(numbers), 0.0
        while left:
            if time.monotonic() > begin + RACE_S:
                raise SystemExit(f"failed: {len(left)} not done in {RACE_S} s")
            if during:
                left -= during(left) or set()
            done = {number for number in left if self.is_done(number)}
            if done:
                last = time.monotonic() - begin
            left -= done
            time.sleep(POLL_S)
        for number in numbers:
            copy = self.copy(number)
            if self.fetches[number].popen.returncode == 0 and digest(copy) != wanted:
                raise SystemExit(f"failed: a wrong copy at {number}")
            copy.unlink(missing_ok=True)
        return last
