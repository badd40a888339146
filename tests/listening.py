"""HTTP servers on loopback for tests, a thread a connection, which end with a block."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that went away


@contextmanager
def listening(
    handler: type[BaseHTTPRequestHandler], *, tls: ssl.SSLContext | None = None, **held: object
) -> Iterator[str]:
    """The address of a server whose connections are of the class `handler`.

    Args:
        held: attributes of the class in this server alone.
    """
    server = _Server(("127.0.0.1", 0), type(handler.__name__, (handler,), held))
    if tls is not None:
        # Each connection's own thread shakes hands: a client that breaks off is no fault of the one that listens.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
