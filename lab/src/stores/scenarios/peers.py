"""Torrents by libtorrent: from the web seeds alone, from a peer alone, and as the peer of another client by a tracker.

    peers.py web TORRENT FOLDER                 downloads from the web seeds; prints the info hash
    peers.py peer TORRENT SEED FOLDER           downloads from a second session that has the files in SEED
    peers.py tracker PORT TORRENT SEED          serves SEED and a tracker on PORT until it is ended
"""

import http.server
import socket
import sys
import time

import libtorrent as lt

LIMIT = 60


def session():
    quiet = {name: False for name in ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp")}
    quiet |= {"listen_interfaces": "127.0.0.1:0", "allow_multiple_connections_per_ip": True}
    return lt.session(quiet)


def add(session, torrent, folder, web_seeds):
    parameters = lt.load_torrent_file(torrent)
    parameters.save_path = folder
    if not web_seeds:
        parameters.url_seeds = []
        parameters.trackers = []
    return session.add_torrent(parameters)


def wait_for_seeding(handle):
    began = time.monotonic()
    while not handle.status().is_seeding:
        status = handle.status()
        assert not status.errc.value(), status.errc.message()
        assert time.monotonic() - began < LIMIT, f"{status.state}, {status.progress:.0%} after {LIMIT} s"
        time.sleep(0.02)


def web(torrent, folder):
    here = session()
    handle = add(here, torrent, folder, web_seeds=True)
    wait_for_seeding(handle)
    print(handle.info_hashes().v1)
    assert not handle.info_hashes().has_v2()


def serve(torrent, folder):
    here = session()
    handle = add(here, torrent, folder, web_seeds=False)
    wait_for_seeding(handle)
    return here, handle


def peer(torrent, seed, folder):
    here, _ = serve(torrent, seed)
    other = session()
    handle = add(other, torrent, folder, web_seeds=False)
    handle.connect_peer(("127.0.0.1", here.listen_port()))
    wait_for_seeding(handle)


def tracker(port, torrent, seed):
    here, _ = serve(torrent, seed)
    peers = socket.inet_aton("127.0.0.1") + here.listen_port().to_bytes(2, "big")

    class Tracker(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"d8:intervali60e5:peers6:" + peers + b"e")

    http.server.HTTPServer(("127.0.0.1", int(port)), Tracker).serve_forever()


{"web": web, "peer": peer, "tracker": tracker}[sys.argv[1]](*sys.argv[2:])
