"""Passes files on, one bit of one byte changed in some; for the end-to-end tests.

`/https/HOST/PATH` is fetched from there, as is what a client asks a proxy for; anything else is a
file of a folder, by its name. Its arguments: address and port to listen on, the folder, what is
passed on and which of it is damaged (two regular expressions for the address that is asked for),
and a certificate with its key if it is to speak TLS.
"""

from __future__ import annotations

import http.server
import re
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

LINKS = rb'((?:href=|"url": ?)")(https?)://'  # of an index's page


def fetch(address: str, folder: Path) -> tuple[int, str, bytes]:
    """Status, content type and body of a file."""
    remote = re.fullmatch(r"/?(https?)(?:://|/)(.*)", address)
    if not remote:
        return 200, "application/octet-stream", (folder / Path(address).name).read_bytes()
    try:
        with urllib.request.urlopen("://".join(remote.groups()), timeout=60) as answer:
            kind, body = answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "text/plain", b""
    return 200, kind, re.sub(LINKS, rb"\1/\2/", body) if "/simple/" in address else body


def damage(body: bytes) -> bytes:
    """The body with its middle byte changed.

    Of a wheel another one, the time of its first file: the archive is still whole, and nothing but
    a checksum can tell.
    """
    at = 10 if body.startswith(b"PK") else len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def main(address: str, folder: str, passed: str, damaged: str, *certificate: str) -> None:
    """Serve for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = 404, "text/plain", b""
            if re.search(passed, self.path):
                status, kind, body = fetch(self.path, Path(folder))
            if body and re.search(damaged, self.path):
                body = damage(body)
                print("damaged", self.path, flush=True)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    host, _, port = address.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
