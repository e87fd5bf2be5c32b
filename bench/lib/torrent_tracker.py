# SPDX-License-Identifier: Apache-2.0
"""torrent_tracker.py ADDRESS PORT: as little of a BitTorrent tracker as aria2 needs to find its peers."""

import http.server
import socket
import struct
import sys
import urllib.parse

PEERS = {}  # of each torrent: (address, port)


class Announce(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # The names of torrents are bytes, not text.
        pairs = (pair.partition("=") for pair in self.path.partition("?")[2].split("&"))
        query = {name: urllib.parse.unquote_to_bytes(value) for name, _, value in pairs}
        peers = PEERS.setdefault(query[b"info_hash".decode()], set())
        asker = (self.client_address[0], int(query["port"]))
        if query.get("event") == b"stopped":
            peers.discard(asker)
        else:
            peers.add(asker)
        others = b"".join(
            socket.inet_aton(address) + struct.pack(">H", port)
            for address, port in peers - {asker}
        )
        body = b"d8:intervali5e12:min intervali1e5:peers%d:%se" % (len(others), others)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Announce).serve_forever()
