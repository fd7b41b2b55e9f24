"""A program of its own: fakeredis over TCP on loopback, the last resort. It keeps nothing over a restart.

fakeredis closes the connection after every error reply, so the first EVALSHA of a script it does not know would fail
its caller. Dramatiq's scripts are therefore loaded before the first client can connect.
"""

from __future__ import annotations

import sys

import dramatiq.brokers.redis
import fakeredis


def main(port: int) -> None:
    """Serve until killed."""
    server = fakeredis.TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    client = fakeredis.FakeRedis(server=server.fake_server)
    for script in dramatiq.brokers.redis._scripts.values():
        client.script_load(script)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
