# SPDX-License-Identifier: Apache-2.0
"""syncthing, as quick as it can be set: all nodes know each other's addresses, no discovery, relays or
NAT, no fsync, usual priority, its own watcher off, since the benchmark tells it what changed."""

import ctypes
import struct
import xml.etree.ElementTree as ElementTree

from lib.network import *

FOLDER = "f"
KEY = {"X-API-Key": "k"}
IN_MOVED_TO = 0x80
OPTIONS = {
    "globalAnnounceEnabled": "false", "localAnnounceEnabled": "false", "relaysEnabled": "false",
    "natEnabled": "false", "startBrowser": "false", "urAccepted": "-1", "stunServer": "",
    "crashReportingEnabled": "false", "autoUpgradeIntervalH": "0", "setLowPriority": "false",
    "reconnectionIntervalS": "5", "progressUpdateIntervalS": "1", "stunKeepaliveStartS": "0",
    "restartOnWakeup": "false",
}  # fmt: skip


class SyncthingNode(Server):
    def __init__(self, where, number):
        super().__init__(None, 8384, f"127.0.2.{number}")
        self.home, self.folder = where / f"home-{number}", where / f"folder-{number}"
        (self.folder / ".stfolder").mkdir(parents=True)
        self.address = f"tcp://{self.host}:22000"
        commands(
            ["syncthing", "generate", "--home", self.home, "--no-default-folder", "--skip-port-probing"]
        )(None)
        words = ["syncthing", "--home", self.home, "--device-id"]
        self.id = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    def configure(self, nodes):
        path = self.home / "config.xml"
        tree = ElementTree.parse(path)
        root = tree.getroot()
        for name, value in {**OPTIONS, "listenAddress": self.address}.items():
            root.find(f"options/{name}").text = value
        root.find("gui/address").text = f"{self.host}:{self.port}"
        root.find("gui/apikey").text = KEY["X-API-Key"]
        pattern = root.find("device")
        root.remove(pattern)
        folder = ElementTree.fromstring(ElementTree.tostring(root.find("defaults/folder")))
        folder.attrib.update(
            id=FOLDER, label=FOLDER, path=str(self.folder), fsWatcherEnabled="false", rescanIntervalS="3600"
        )
        folder.find("disableFsync").text = "true"
        folder.find("minDiskFree").text = "0"
        for device in folder.findall("device"):
            folder.remove(device)
        for node in nodes:
            device = ElementTree.fromstring(ElementTree.tostring(pattern))
            device.attrib.update(id=node.id, name=node.host, compression="never")
            device.find("address").text = node.address
            root.append(device)
            ElementTree.SubElement(folder, "device", id=node.id, introducedBy="")
        root.append(folder)
        tree.write(path)

    def start(self):
        words = ["syncthing", "serve", "--home", self.home, "--no-browser", "--no-restart", "--no-upgrade",
                 "--logfile", self.home / "log"]  # fmt: skip
        environment = {**os.environ, "HOME": str(self.home), "STNORESTART": "1", "STNOUPGRADE": "1"}
        self.process = subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def rest(self, path):
        return json.loads(self.request("GET", f"/rest/{path}", headers=KEY))

    def is_ready(self, count):
        with contextlib.suppress(OSError):
            connections = self.rest("system/connections")["connections"].values()
            met = sum(connection["connected"] for connection in connections)
            return met >= count - 1 and self.rest(f"db/status?folder={FOLDER}")["state"] == "idle"
        return False


@contextlib.contextmanager
def syncthing_network(where, count):
    nodes = [SyncthingNode(where, number) for number in range(1, count + 1)]
    try:
        for node in nodes:
            node.configure(nodes)
            node.start()
        for node in nodes:
            wait_until(lambda node=node: node.is_ready(count), "syncthing meets", pause=0.2)
        time.sleep(2.5)  # it scans once more after that
        yield nodes
    finally:
        for node in nodes:
            if node.process:
                node.process.terminate()
                node.process.wait()


class Arrivals:
    """Names of files as they appear, by rename, in any of some directories (inotify)."""

    def __init__(self, directories):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC)
        for directory in directories:
            if libc.inotify_add_watch(self.fd, str(directory).encode(), IN_MOVED_TO) < 0:
                raise SystemExit(f"inotify: {directory}")

    def fileno(self):
        return self.fd

    def read(self):
        names, data, at = [], os.read(self.fd, 1 << 16), 0
        while at < len(data):
            size = struct.unpack_from("iIII", data, at)[3]
            names.append(data[at + 16 : at + 16 + size].rstrip(b"\0").decode())
            at += 16 + size
        return names
