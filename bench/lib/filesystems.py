# SPDX-License-Identifier: Apache-2.0
"""File systems of the same machine, each a directory to work in: a local one, bindfs over it, glusterfs
with one brick, artel. All keep what they hold in the same place, so that only they differ.

Needs root: it mounts.
"""

import ctypes

from lib.network import *

GLUSTER_ADDRESS = "10.77.0.1"  # glusterd refuses those of the loopback
MOUNTED_S = 60

# What makes glusterfs fast for one client: the advice of its manual for small files.
GLUSTER_OPTIONS = {
    "performance.client-io-threads": "on",
    "features.cache-invalidation": "on",
    "features.cache-invalidation-timeout": "600",
    "performance.stat-prefetch": "on",
    "performance.cache-invalidation": "on",
    "performance.md-cache-timeout": "600",
    "network.inode-lru-limit": "200000",
    "performance.cache-size": "256MB",
    "performance.write-behind-window-size": "4MB",
    "client.event-threads": "2",
    "server.event-threads": "2",
    "nfs.disable": "on",
    "storage.reserve": "0",
}


class Local:
    """What lies under all of them."""

    name = "local"

    def __init__(self, where):
        self.where = where / self.name
        self.where.mkdir()
        self.processes = []
        self.path = self.where / "mount"
        self.path.mkdir()

    def start(self):
        """Makes it ready; then work can be done in self.path."""

    def forget(self):
        """Empties all caches between a program and what is stored, as far as there are some."""

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.processes = []

    # ---- for those that mount ----

    def spawn(self, *words):
        with open(self.where / "log", "ab") as log:
            process = subprocess.Popen([*map(str, words)], stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def wait_mounted(self, process):
        def mounted():
            if process.poll() is not None:
                raise SystemExit(f"{self.name} ended\n{(self.where / 'log').read_text()[-4000:]}")
            return os.path.ismount(self.path)

        wait_until(mounted, f"{self.name} is mounted", MOUNTED_S)

    def remount(self, process):
        """Unmounts what `process` has mounted and waits for its end."""
        subprocess.run(["umount", self.path], check=True)
        process.wait()
        self.processes.remove(process)


class Bindfs(Local):
    name = "bindfs"

    def start(self):
        (self.where / "under").mkdir(exist_ok=True)
        self.mounter = self.spawn(
            "bindfs", "-f", "--multithreaded", self.where / "under", self.path
        )
        self.wait_mounted(self.mounter)

    def forget(self):
        self.remount(self.mounter)
        self.start()

    def stop(self):
        subprocess.run(["umount", self.path])
        super().stop()


class Gluster(Bindfs):
    """One server with one brick and one client; the network is the loopback."""

    name = "glusterfs"

    def start(self):
        subprocess.run(["ip", "address", "add", f"{GLUSTER_ADDRESS}/32", "dev", "lo"], check=True)
        for each in ("work", "run", "brick"):
            (self.where / each).mkdir()
        pathlib.Path("/var/log/glusterfs/bricks").mkdir(parents=True, exist_ok=True)
        (self.where / "glusterd.vol").write_text(
            f"""volume management
 type mgmt/glusterd
 option working-directory {self.where}/work
 option run-directory {self.where}/run
 option glusterd-sockfile {self.where}/socket
 option transport-type socket
 option transport.socket.listen-port 24007
 option transport.socket.bind-address {GLUSTER_ADDRESS}
 option ping-timeout 0
 option event-threads 1
 option max-port 60999
end-volume
"""
        )
        volume, pid = self.where / "glusterd.vol", self.where / "pid"
        self.spawn("glusterd", "-N", "-f", volume, "-p", pid, "-l", self.where / "glusterd.log")
        # It answers once its socket is there and its store is read.
        wait_until(lambda: self.ask("volume", "list") == 0, "glusterd answers", MOUNTED_S, 0.2)
        self.command("create", "bench", f"{GLUSTER_ADDRESS}:{self.where}/brick", "force")
        for option, value in GLUSTER_OPTIONS.items():
            self.command("set", "bench", option, value)
        self.command("start", "bench")
        self.mount()

    def ask(self, *words):
        words = ["gluster", "--mode=script", f"--glusterd-sock={self.where}/socket", *words]
        with open(self.where / "log", "ab") as log:
            return subprocess.run(words, stdout=log, stderr=log).returncode

    def command(self, *words):
        if self.ask("volume", *words) != 0:
            log = (self.where / "log").read_text()[-2000:]
            raise SystemExit(f"gluster volume {' '.join(words)} fails\n{log}")

    def mount(self):
        self.mounter = self.spawn(
            "glusterfs", "-N", "-s", GLUSTER_ADDRESS, "--volfile-id=bench",
            "-l", self.where / "client.log", self.path,
        )  # fmt: skip
        self.wait_mounted(self.mounter)

    def forget(self):
        self.remount(self.mounter)
        self.mount()

    def stop(self):
        subprocess.run(["umount", self.path])
        self.ask("volume", "stop", "bench", "force")
        Local.stop(self)
        subprocess.run(["ip", "address", "del", f"{GLUSTER_ADDRESS}/32", "dev", "lo"], check=True)


class Artel(Bindfs):
    """A node and its mount."""

    name = "artel"

    def start(self):
        self.node = Node(self.where, 1)
        self.node.start()
        self.mount()

    def mount(self):
        self.mounter = self.spawn(ARTEL, "mount", "--data", self.node.data, self.path)
        self.wait_mounted(self.mounter)

    def forget(self):
        self.remount(self.mounter)
        self.mount()

    def stop(self):
        super().stop()
        self.node.end(signal.SIGTERM)


KINDS = {kind.name: kind for kind in (Local, Bindfs, Gluster, Artel)}


def enter_namespaces():
    """A network of its own, as enter_namespace(), and mounts that nobody else sees and that end with
    this process."""
    if os.geteuid() != 0:
        raise SystemExit("needs root: it mounts")
    enter_namespace()
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):  # CLONE_NEWNS
        raise SystemExit("needs a mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
