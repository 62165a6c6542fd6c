"""nginx's ports, answers and certificates, as JSON.

Keys stay on the host.
"""

from __future__ import annotations

import contextlib
import glob
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
from typing import Any

# By the port's name: its address, its port, and whether the host's own authority vouches for it.
PORTS: dict[str, tuple[str, int, bool]] = json.loads(sys.argv[1])
AUTHORITY = "/etc/airflow/tls/ca.pem"
PATHS = {"pods": "/execution/health", "page": "/api/v2/version"}
XCOM = "/execution/xcoms/dag/run/task/key"
MIB = 2**20
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def output(*command: str) -> str:
    """The output of a command, however it ends."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def context(trusted: bool) -> ssl.SSLContext:
    if trusted:
        return ssl.create_default_context(cafile=AUTHORITY)
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    return anybody


def connect(port: str) -> ssl.SSLSocket:
    address, number, trusted = PORTS[port]
    plain = socket.create_connection((address, number), timeout=10)
    return context(trusted).wrap_socket(plain, server_hostname="localhost")


def status(port: str, path: str) -> int:
    """The status of an answer; an untrusted certificate is an error."""
    connection = http.client.HTTPSConnection("localhost", PORTS[port][1], timeout=10)
    connection.sock = connect(port)
    connection.request("GET", path)
    return connection.getresponse().status


def says_to_body_of(port: str, path: str, size: int) -> str:
    """nginx's answer to a request that announces a body, before it would be sent."""
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    with contextlib.closing(connect(port)) as connection:
        connection.sendall(f"{request}Expect: 100-continue\r\n\r\n".encode())
        return connection.recv(1000).decode().split()[1]


def shown(port: str) -> list[str]:
    address, number, _ = PORTS[port]
    connect = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
    return CERTIFICATE.findall(output("openssl", "s_client", "-showcerts", "-connect", connect))


def own_names() -> list[str]:
    """The host's name, with its domain and without, and its address as others see it."""
    names = [socket.gethostname(), output("hostname", "-f").strip()]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams, contextlib.suppress(OSError):  # there may be no network
        datagrams.connect(("192.0.2.1", 9))  # nothing is sent
        names.append(datagrams.getsockname()[0])
    return [name for name in names if name]


def listens() -> dict[str, list[str]]:
    """Where each file of nginx's running configuration lets it listen."""
    parts = re.split(r"^# configuration file (\S+):$", output("nginx", "-T"), flags=re.MULTILINE)
    return {
        path: re.findall(r"\blisten\s+([^\s;]+)", re.sub("#.*", "", text))
        for path, text in zip(parts[1::2], parts[2::2], strict=True)
    }


answer: dict[str, Any] = {
    "statuses": {port: {path: status(port, path) for path in PATHS.values()} for port in PORTS},
    "bodies": {
        port: [says_to_body_of(port, PATHS[port], size) for size in (MIB, MIB + 1)]
        for port in PORTS
    },
    "xcoms": [says_to_body_of("pods", XCOM, size) for size in (64 * MIB, 64 * MIB + 1)],
    "shown": {port: shown(port) for port in PORTS},
    "kept": {path: CERTIFICATE.findall(read(path)) for path in glob.glob("/etc/airflow/tls/*.pem")},
    "names": own_names(),
    "listens": listens(),
}
print(json.dumps(answer))
