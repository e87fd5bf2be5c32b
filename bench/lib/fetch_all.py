# SPDX-License-Identifier: Apache-2.0
"""fetch_all.py ADDRESS PORT PATH COUNT: has a node fetch all COUNT files below PATH (POST /fetches), and
waits until they are there and durable."""

import http.client
import json
import sys
import time

POLL_S = 0.005
AT_ONCE = 900  # ids of a request


def listed(address, port, path, count):
    """Ids of the files, as soon as the tree has all."""
    while True:
        connection = http.client.HTTPConnection(address, port)
        accept = {"Accept": "application/x-ndjson"}
        connection.request("GET", f"/fs/{path}?depth=all", headers=accept)
        lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        ids = [line["id"] for line in lines if line.get("type") == "file"]
        if len(ids) == count:
            return ids
        time.sleep(POLL_S)


def fetched(address, port):
    connection = http.client.HTTPConnection(address, port)
    connection.request("GET", "/metrics")
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("artel_fetch_files_done_total "):
            return int(line.split()[1])
    raise SystemExit("no such metric")


def ask(address, port, ids):
    connection = http.client.HTTPConnection(address, port)
    for first in range(0, len(ids), AT_ONCE):
        body = json.dumps({"op": "start", "ids": ids[first : first + AT_ONCE], "keep": True})
        connection.request("POST", "/fetches", body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 202:
            raise SystemExit(f"answered {answer.status} {text}")


def main():
    address, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    before = fetched(address, port)
    ids = listed(address, port, path, count)
    ask(address, port, ids)
    while fetched(address, port) < before + len(set(ids)):
        time.sleep(POLL_S)


main()
