# SPDX-License-Identifier: Apache-2.0
"""torrent_peer.py ADDRESS PORT shaped|free: a peer of libtorrent, told what to do in lines of JSON.

Says "ready"; then for each line {"torrent", "directory", "seeds", "peers"} "seeding", or "done" when it
has all of it.
"""

import json
import select
import sys

import libtorrent

KIB = 1024
MIB = 1024 * KIB

SETTINGS = {
    # Nothing but peers that are told, over plain TCP.
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "in_enc_policy": 2,
    "out_enc_policy": 2, "allow_multiple_connections_per_ip": True, "rate_limit_ip_overhead": False,
    # No bound on what there may be of anything, and no waiting for a tick.
    "unchoke_slots_limit": 100, "choking_algorithm": 0, "connections_limit": 500,
    "connection_speed": 1000, "min_reconnect_time": 1, "torrent_connect_boost": 100,
    "smooth_connects": False, "tick_interval": 500, "max_allowed_in_request_queue": 4000,
    "max_queued_disk_bytes": 64 * MIB, "max_peer_recv_buffer_size": 4 * MIB, "aio_threads": 2,
    "hashing_threads": 1, "prioritize_partial_pieces": False,
    "alert_mask": int(libtorrent.alert.category_t.status_notification
                      | libtorrent.alert.category_t.error_notification),
}  # fmt: skip
BY_LINKS = {
    "free": {
        "max_out_request_queue": 2000, "request_queue_time": 3, "send_buffer_watermark": 4 * MIB,
        "send_buffer_low_watermark": MIB, "send_buffer_watermark_factor": 150,
    },
    "shaped": {
        "max_out_request_queue": 100, "request_queue_time": 1, "send_buffer_watermark": 512 * KIB,
        "send_buffer_low_watermark": 10 * KIB, "send_buffer_watermark_factor": 50,
        "send_socket_buffer_size": 128 * KIB,
    },
}  # fmt: skip


def main():
    address, port, links = sys.argv[1:]
    session = libtorrent.session(
        {**SETTINGS, **BY_LINKS[links], "listen_interfaces": f"{address}:{port}"}
    )
    print("ready", flush=True)
    fetches = False
    while True:
        if select.select([sys.stdin], [], [], 0 if fetches else 0.1)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            told = json.loads(line)
            what = libtorrent.add_torrent_params()
            what.ti = libtorrent.torrent_info(told["torrent"])
            what.save_path = told["directory"]
            what.flags = libtorrent.torrent_flags.seed_mode if told["seeds"] else 0
            torrent = session.add_torrent(what)
            for peer in told["peers"]:
                torrent.connect_peer(tuple(peer))
            fetches = not told["seeds"]
            if not fetches:
                print("seeding", flush=True)
        if fetches:
            session.wait_for_alert(20)
        for alert in session.pop_alerts():
            if isinstance(alert, libtorrent.torrent_finished_alert) and fetches:
                print("done", flush=True)
                fetches = False
            elif "error" in alert.what():
                print(alert.message(), file=sys.stderr, flush=True)


main()
