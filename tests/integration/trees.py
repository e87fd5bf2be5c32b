# SPDX-License-Identifier: Apache-2.0
"""The trees of several nodes: what each holds, and waiting until they are the same."""

import io
import json
import tarfile

import harness
from harness import check, wait_for

# Within seconds on a quiet machine; other tests run beside.
SOON_S = 240 if harness.SANITIZED else 60


def listing(node):
    """{path: entry} of all of it."""
    answer = node.get("/fs?depth=all", Accept="application/x-ndjson")
    check(answer.status == 200, "listing", answer)
    entries = [json.loads(line) for line in answer.body.splitlines()]
    return {entry["path"]: entry for entry in entries}


def fingerprints(nodes):
    return {node.status()["fingerprint"] for node in nodes}


def are_same(nodes):
    """Fingerprints are told one after the other, so only a second look shows that none moved."""
    first = fingerprints(nodes)
    return len(first) == 1 and fingerprints(nodes) == first


def wait_on(nodes, condition, what, within_s=SOON_S):
    """Waits as wait_for(); a failure tells what the nodes think."""
    try:
        return wait_for(condition, within_s, what)
    except harness.Failure as failure:
        states = []
        for node in nodes:
            figures = {name: value for name, value in node.metrics().items()
                       if name.startswith("artel_tree_") and value}
            states.append(f"{node.name}: {node.status()}\n{figures}\n{node.log.decode()[-2000:]}")
        raise harness.Failure("\n".join([str(failure), *states])) from None


def wait_same(nodes, what="all have the same tree", within_s=SOON_S):
    """Until they are; then what people see must be the same, too. Gives it."""
    wait_on(nodes, lambda: are_same(nodes), what, within_s)
    trees = [listing(node) for node in nodes]
    for node, tree in zip(nodes, trees):
        check(tree == trees[0], f"{node.name} shows another tree with the same fingerprint",
              set(tree) ^ set(trees[0]))
    return trees[0]


def tar_of(files):
    """{name: data} as a stream for PUT."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def put_tar(node, path, files, query=""):
    answer = node.request("PUT", f"/fs/{path}/{query}", body=tar_of(files),
                          headers={"Content-Type": "application/x-tar"})
    check(answer.status in (200, 201), "put of a directory", answer)
    return answer.json


def put(node, path, data):
    """Publishes; gives the name of the version."""
    answer = node.put(path, data)
    check(answer.status in (200, 201), "put", path, answer)
    return answer.json["version"]


def versions(node, path):
    """{version: the rest of what is told of it} of all that are known of a path."""
    answer = node.get(f"/log/{path}?limit=10000")
    check(answer.status == 200, "log", path, answer)
    return {version.pop("version"): version for version in answer.json["versions"]}
