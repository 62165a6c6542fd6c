"""A REST service with one resource and a login; runs on the test machine.

It has the standard library alone. Arguments: the port and the JSON file that is the resource.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RESOURCE = "/measurements"


class Handler(BaseHTTPRequestHandler):
    """Gives the resource to clients with the bearer token or the user and password."""

    def do_GET(self) -> None:
        """Answer with the resource, or say why not."""
        login = f"{os.environ['REST_USER']}:{os.environ['REST_PASSWORD']}".encode()
        allowed = (f"Bearer {os.environ['REST_TOKEN']}", f"Basic {b64encode(login).decode()}")
        if self.headers.get("Authorization") not in allowed:
            self._answer(HTTPStatus.UNAUTHORIZED, b'{"error": "login required"}')
        elif self.path.partition("?")[0] != RESOURCE:
            self._answer(HTTPStatus.NOT_FOUND, b'{"error": "no such resource"}')
        else:
            # Read again each time: a test may change it while the service runs.
            self._answer(HTTPStatus.OK, Path(sys.argv[2]).read_bytes())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
