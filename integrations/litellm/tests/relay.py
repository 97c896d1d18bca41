"""What LiteLLM and webhook-api say to each other, kept while it is passed on."""

import socket
import socketserver
import threading
from contextlib import suppress


class Relay:
    """Passes connections on from a free port of the loopback to another one."""

    def __init__(self, port: int) -> None:
        self.traffic: list[bytes] = []
        """Everything that was said, in either direction."""
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                    back = threading.Thread(target=relay._pass_on, args=(server, self.request), daemon=True)
                    back.start()
                    relay._pass_on(self.request, server)
                    back.join()

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the module calls."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                self.traffic.append(part)
                target.sendall(part)
        # The end of one direction is the end of both: so a killed service is noticed at once.
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stops taking connections."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: either side may be killed meanwhile."""
