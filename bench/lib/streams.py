# SPDX-License-Identifier: Apache-2.0
"""Many entries at once: tar streams, and what the database takes for them."""

from lib.nodes import *

TAR_BLOCK = 512
IN_DIRECTORY = 1000
IN_STREAM = 10000


def tar_entry(name, kind, target=b"", content=b""):
    mode = b"0000644" if kind == b"0" else b"0000777"
    head = b"%s\0%s\0%s\0%s\0%011o\0%011o\0        %s%s\0ustar\x0000" % (
        name.ljust(99, b"\0"), mode, b"0000000", b"0000000", len(content), 1700000000, kind,
        target.ljust(99, b"\0"),
    )  # fmt: skip
    head = head.ljust(TAR_BLOCK, b"\0")
    head = head[:148] + b"%06o\0 " % sum(head) + head[156:]
    return head + content.ljust(-(-len(content) // TAR_BLOCK) * TAR_BLOCK, b"\0")


def entry_path(i):
    """Directories count as entries too, one for each 1,000."""
    return f"{i // 100 // IN_DIRECTORY:02}/{i // IN_DIRECTORY:05}/entry-{i:08}"


def make_stream(path, first, count, with_content):
    with open(path, "wb") as file:
        for i in range(first, first + count):
            name = entry_path(i).encode()
            if with_content:
                file.write(tar_entry(name, b"0", content=b"%015d\n" % i))
            else:
                file.write(tar_entry(name, b"2", target=b"target-%08d" % i))
        file.write(b"\0" * 2 * TAR_BLOCK)


def put_stream(node, stream, path):
    """Gives the seconds that it took."""
    # Not -T: curl would put the name of the file behind the slash.
    words = ["curl", "-fsS", "-X", "PUT", "-H", "Content-Type: application/x-tar", "-H", "Expect:"]
    words += ["--data-binary", f"@{stream}", "-o", "/dev/null", f"{node.url}/fs/{path}"]
    start = time.monotonic()
    commands(words)(None)
    return time.monotonic() - start


def fill(node, where, entries, with_content, path):
    """Symbolic links (entries without content) or files of 16 bytes, by streams of 10,000. Gives
    the seconds of each stream; making the streams is not measured."""
    stream = where / "stream.tar"
    each = []
    for first in range(0, entries, IN_STREAM):
        make_stream(stream, first, min(IN_STREAM, entries - first), with_content)
        each.append(put_stream(node, stream, path))
        progress(f"{first + IN_STREAM} entries")
    stream.unlink()
    progress("")
    return each


def database_bytes(data):
    """What the files of the index take on the disk; a map with holes takes less than its length."""
    return sum(path.stat().st_blocks * 512 for path in data.rglob("index/*") if path.is_file())
