# SPDX-License-Identifier: Apache-2.0
"""A file, or a directory, from one machine to several, by artel and by others.

Each racer stands ready before the clock starts: what of it is a daemon runs, and members know each
other. Then the file is published, and its receivers begin at once. A receiver is done when it says so;
afterwards every copy is compared with the original.

Settings of the others, as they did best here: aria2 with a tracker of its own on the publisher's
machine, no limits on peers; libtorrent fully meshed by hand, plain TCP, with small buffers and short
request queues on shaped links; rsync as a daemon, whole files; nginx with sendfile and one curl for
each receiver, which checks nothing.
"""

import hashlib
import random
import threading

from lib.links import *

POLL_S = 0.005
SAMPLE_S = 0.2
RACE_S = 300
PIECE_BYTES = {True: 256 * KIB, False: MIB}  # of a torrent, by whether links are shaped
TICK = os.sysconf("SC_CLK_TCK")


class Loopback:
    """Machines that are addresses of one loopback."""

    def words(self, number):
        return []

    def address(self, number):
        return f"127.0.1.{number + 1}"

    def sent_bytes(self, number):
        return 0

    def close(self):
        pass


class Process:
    """One that was started, with its children; its processor time can be asked for after its end."""

    def __init__(self, words, **options):
        self.popen = subprocess.Popen([str(word) for word in words], **options)
        self.pid = self.popen.pid
        self.used = 0.0

    def pids(self):
        with contextlib.suppress(OSError):
            children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            return [self.pid, *map(int, children.split())]
        return []

    def cpu_seconds(self):
        """Of children that have ended, once they were waited for."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError, IndexError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / TICK
        self.used = max(self.used, total)
        return self.used

    def private_bytes(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Anonymous:"):
                        total += int(line.split()[1]) * KIB
        return total

    def has_ended(self):
        """Without an error, or the race is over."""
        if self.popen.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.used = usage.ru_utime + usage.ru_stime
            self.popen.returncode = os.waitstatus_to_exitcode(status)
        if self.popen.returncode:
            raise SystemExit(f"failed: {self.popen.args} ended with {self.popen.returncode}")
        return True

    def end(self):
        if self.popen.returncode is None:
            pids = self.pids()
            self.popen.kill()
            self.popen.wait()
            for pid in pids[1:]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


class Racer:
    def __init__(self, where, links, count, is_shaped):
        self.where, self.links, self.count, self.is_shaped = where, links, count, is_shaped
        self.processes = []
        self.fetches = {}

    def run(self, number, words, **options):
        process = Process([*self.links.words(number), *words], **options)
        self.processes.append(process)
        return process

    def directory(self, number):
        path = self.where / f"machine-{number}"
        path.mkdir(exist_ok=True)
        return path

    def copy(self, number):
        """None: not as files."""
        return self.directory(number) / self.source.name

    def start(self):
        """What stands ready; not measured."""

    def publish(self, source):
        self.source = source

    def go(self, number):
        raise NotImplementedError

    def is_done(self, number):
        return self.fetches[number].has_ended()

    def connects(self, number, port):
        """Somebody listens there."""
        words = ["bash", "-c", f"exec 3<>/dev/tcp/{self.links.address(number)}/{port}"]
        return not subprocess.run(
            [*self.links.words(number), *words], stderr=subprocess.DEVNULL
        ).returncode

    def end(self):
        for process in self.processes:
            process.end()


# ---- artel --------------------------------------------------------------------------------------


class Artel(Racer):
    """Nodes that know each other; each receiver gets the file with `artel get` from its own node."""

    name = "artel"

    def url(self, number):
        return f"http://{self.links.address(number)}:{PORT}"

    def start(self):
        for number in range(self.count + 1):
            words = [ARTEL, "node", "--data", self.where / f"data-{number}", "--insecure", "--name",
                     f"n{number}", "--listen", f"{self.links.address(number)}:{PORT}",
                     "--scrub-rate", "0"]  # fmt: skip
            words += ["--join", f"{self.links.address(0)}:{PORT}"] if number else []
            log = open(self.where / f"log-{number}", "ab")
            node = self.run(number, words, stdout=subprocess.PIPE, stderr=log)
            if not node.popen.stdout.readline().startswith(b"ready "):
                raise SystemExit("artel does not start")
        for number in range(self.count + 1):
            wait_until(lambda: self.sees(number) == self.count + 1, "all see all", pause=0.05)

    def sees(self, number):
        words = [ARTEL, "members", "--json", "--node", self.url(number)]
        out = subprocess.run(
            [*self.links.words(number), *words], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        return sum(member["state"] == "alive" for member in json.loads(out))

    def publish(self, source):
        super().publish(source)
        words = [ARTEL, "put", source, f"/{source.name}", "--node", self.url(0)]
        commands([*self.links.words(0), *words])(None)

    def go(self, number):
        # The entry comes by a broadcast of its own, while the others begin.
        script = 'until "$0" stat "$1" --node "$2" >/dev/null 2>&1; do sleep 0.01; done; '
        script += 'exec "$0" get --quiet --node "$2" "$1" "$3"'
        words = ["bash", "-c", script, ARTEL, f"/{self.source.name}", self.url(number)]
        self.fetches[number] = self.run(number, [*words, self.copy(number)])


# ---- BitTorrent ---------------------------------------------------------------------------------


TRACKER_PORT = 6969
TORRENT_PORT = 6881


class Torrent(Racer):
    def piece_bytes(self):
        return PIECE_BYTES[self.is_shaped]

    def make_torrent(self, source, tracker=None):
        """In a process of its own, whose time counts."""
        super().publish(source)
        self.torrent = self.where / "file.torrent"
        script = """
import os, sys, libtorrent
source, target, piece, tracker = sys.argv[1:]
files = libtorrent.file_storage()
libtorrent.add_files(files, source)
torrent = libtorrent.create_torrent(files, int(piece), libtorrent.create_torrent.v1_only)
if tracker:
    torrent.add_tracker(tracker)
libtorrent.set_piece_hashes(torrent, os.path.dirname(source))
open(target, "wb").write(libtorrent.bencode(torrent.generate()))
"""
        words = ["/usr/bin/python3", "-c", script, source, self.torrent, self.piece_bytes()]
        commands([*words, tracker or ""])(None)


class Libtorrent(Torrent):
    name = "libtorrent"

    def say(self, number, **what):
        peer = self.peers[number]
        peer.popen.stdin.write(json.dumps(what).encode() + b"\n")
        peer.popen.stdin.flush()

    def start(self):
        self.peers, self.done = [], set()
        for number in range(self.count + 1):
            script = pathlib.Path(__file__).with_name("torrent_peer.py")
            words = ["/usr/bin/python3", "-B", script, self.links.address(number), TORRENT_PORT]
            words += ["shaped" if self.is_shaped else "free"]
            peer = self.run(number, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert peer.popen.stdout.readline() == b"ready\n"
            self.peers.append(peer)

    def publish(self, source):
        self.make_torrent(source)
        self.say(0, torrent=str(self.torrent), directory=str(source.parent), seeds=True, peers=[])
        assert self.peers[0].popen.stdout.readline() == b"seeding\n"

    def go(self, number):
        peers = [[self.links.address(other), TORRENT_PORT] for other in range(number)]
        self.say(number, torrent=str(self.torrent), directory=str(self.directory(number)),
                 seeds=False, peers=peers)  # fmt: skip
        os.set_blocking(self.peers[number].popen.stdout.fileno(), False)

    def is_done(self, number):
        if number not in self.done and self.peers[number].popen.stdout.read() == b"done\n":
            self.done.add(number)
        return number in self.done


class Aria2(Torrent):
    name = "aria2"

    def start(self):
        tracker = pathlib.Path(__file__).with_name("torrent_tracker.py")
        self.run(0, ["/usr/bin/python3", "-B", tracker, self.links.address(0), TRACKER_PORT])
        wait_until(lambda: self.connects(0, TRACKER_PORT), "the tracker")
        self.hook = self.where / "hook.sh"
        self.hook.write_text('#!/bin/sh\n: > "$(dirname "$3").done"\n')
        self.hook.chmod(0o755)

    def peer(self, number, directory, *more):
        return self.run(number, [
            "aria2c", "--no-conf", "--quiet=true", f"--dir={directory}", "--seed-time=999",
            "--seed-ratio=0.0", f"--listen-port={TORRENT_PORT}", "--enable-dht=false",
            "--enable-dht6=false", "--bt-enable-lpd=false", "--bt-max-peers=0", "--disable-ipv6=true",
            "--file-allocation=none", "--summary-interval=0", "--bt-tracker-interval=1",
            "--bt-request-peer-speed-limit=1000M", "--max-overall-upload-limit=0",
            "--disk-cache=64M", f"--bt-external-ip={self.links.address(number)}",
            f"--on-bt-download-complete={self.hook}", *more, self.torrent,
        ])  # fmt: skip

    def publish(self, source):
        self.make_torrent(source, f"http://{self.links.address(0)}:{TRACKER_PORT}/announce")
        self.peer(0, source.parent, "--bt-seed-unverified=true")
        wait_until(lambda: self.connects(0, TORRENT_PORT), "the publisher")

    def go(self, number):
        self.peer(number, self.directory(number))

    def is_done(self, number):
        return self.directory(number).with_suffix(".done").exists()


# ---- one server ---------------------------------------------------------------------------------


class Rsync(Racer):
    name = "rsync"
    PORT = 8730

    def start(self):
        config = self.where / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\nlog file = /dev/null\n"
            f"pid file = {self.where}/rsyncd.pid\n[files]\npath = {self.where}\nread only = yes\n"
        )
        words = ["rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={self.PORT}",
                 f"--address={self.links.address(0)}"]  # fmt: skip
        self.run(0, words)
        wait_until(lambda: self.connects(0, self.PORT), "rsync")

    def go(self, number):
        source = self.source.relative_to(self.where)
        address = f"rsync://{self.links.address(0)}:{self.PORT}/files/{source}"
        self.fetches[number] = self.run(number, ["rsync", "-aW", address, f"{self.directory(number)}/"])


class NginxCurl(Racer):
    name = "nginx+curl"
    PORT = 8080

    def start(self):
        config = self.where / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 2; pid {self.where}/pid; error_log stderr crit;
            user {"root" if os.getuid() == 0 else "nobody"};
            events {{ worker_connections 4096; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 2m;
                client_body_temp_path {self.where}/t1; proxy_temp_path {self.where}/t2;
                fastcgi_temp_path {self.where}/t3; uwsgi_temp_path {self.where}/t4;
                scgi_temp_path {self.where}/t5;
                server {{ listen {self.links.address(0)}:{self.PORT}; root {self.where}; }}
            }}"""
        )
        self.run(0, ["nginx", "-p", self.where, "-c", config])
        wait_until(lambda: self.connects(0, self.PORT), "nginx")

    def go(self, number):
        url = f"http://{self.links.address(0)}:{self.PORT}/{self.source.relative_to(self.where)}"
        words = ["curl", "-fsS", "-o", self.copy(number), url]
        self.fetches[number] = self.run(number, words)


# ---- a race -------------------------------------------------------------------------------------


def random_file(path, size):
    with open(path, "wb") as file:
        for begin in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - begin)))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class RandomFile:
    """What is published: one file."""

    name = "file.bin"

    def __init__(self, size):
        self.size = size

    def make(self, path):
        random_file(path, self.size)

    def digest(self, path):
        return digest(path)


class SmallFiles:
    """What is published: a directory with `count` files of 4 to 16 KiB, 100 in a directory."""

    name = "tree"

    def __init__(self, count):
        self.count = count

    def sizes(self):
        numbers = random.Random(self.count)
        return [numbers.randint(4 * KIB, 16 * KIB) for _ in range(self.count)]

    def content_bytes(self):
        return sum(self.sizes())

    def make(self, path):
        for number, size in enumerate(self.sizes()):
            directory = path / f"d{number // 100}"
            if number % 100 == 0:
                directory.mkdir(parents=True)
            (directory / f"f{number}").write_bytes(os.urandom(size))

    def digest(self, path):
        whole = hashlib.sha256()
        for file in sorted(path.rglob("f*")):
            whole.update(f"{file.relative_to(path)}\0".encode() + digest(file))
        return whole.digest()


@dataclasses.dataclass
class Result:
    publish: float  # seconds
    first: float  # from the end of that until the first receiver was done
    last: float
    cpu_seconds: float  # all processes, from then on
    private_bytes: int  # the most that all had at once, after it
    sent_bytes: int  # by the publisher, over its link
    all_sent_bytes: int  # by all, over theirs


class Sampler(threading.Thread):
    """Looks at memory while a race runs."""

    def __init__(self, racer):
        super().__init__(daemon=True)
        self.racer, self.most, self.stopped = racer, 0, threading.Event()

    def run(self):
        while not self.stopped.wait(SAMPLE_S):
            now = 0
            for process in list(self.racer.processes):
                now += process.private_bytes()
                process.cpu_seconds()  # of one that ends between two looks, some remains
            self.most = max(self.most, now)

    def stop(self):
        self.stopped.set()
        self.join()
        return self.most


def race(kind, links, count, content, is_shaped):
    """`content`: a RandomFile or SmallFiles."""
    with work_dir(MEMORY_ROOT) as where:
        source = where / "source" / content.name
        source.parent.mkdir()
        content.make(source)
        wanted = content.digest(source)
        racer = kind(where, links, count, is_shaped)
        try:
            racer.start()
            machines = range(count + 1)
            sent = [links.sent_bytes(number) for number in machines]
            begin = time.monotonic()
            racer.publish(source)
            published = time.monotonic()
            cpu = sum(process.cpu_seconds() for process in racer.processes)
            sampler = Sampler(racer)
            sampler.start()
            times, left = [], set(range(1, count + 1))
            for number in left:
                racer.go(number)
            while left:
                if time.monotonic() > published + RACE_S:
                    raise SystemExit(f"failed: {racer.name}: {len(left)} not done in {RACE_S} s")
                for number in [number for number in left if racer.is_done(number)]:
                    left.remove(number)
                    times.append(time.monotonic() - published)
                time.sleep(POLL_S)
            sent = [links.sent_bytes(number) - before for number, before in zip(machines, sent)]
            result = Result(
                published - begin, min(times), max(times),
                sum(process.cpu_seconds() for process in racer.processes) - cpu,
                sampler.stop(), sent[0], sum(sent),
            )  # fmt: skip
            for number in range(1, count + 1):
                if racer.copy(number) and content.digest(racer.copy(number)) != wanted:
                    raise SystemExit(f"failed: {racer.name}: a wrong copy at {number}")
            return result
        finally:
            racer.end()
