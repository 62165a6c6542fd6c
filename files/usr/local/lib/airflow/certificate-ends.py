#!/usr/bin/env -S python3 -B
"""certificate-ends.py FILE...: print when the first of these certificates ends, as Unix time, and
its file; nothing if there is none. certificates.sh calls it. Written by the deploy of Airflow.

A kubeconfig (.conf) has its certificate inside, or names the file, which is one of the others.
"""

import base64
import calendar
import re
import subprocess
import sys
import time
from pathlib import Path

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def certificate(path: Path) -> bytes:
    """The first certificate in a file, as PEM; empty if there is none."""
    text = path.read_bytes()
    if path.suffix == ".conf":
        inside = re.search(rb"^ *client-certificate-data: *(\S+)", text, re.MULTILINE)
        text = base64.b64decode(inside[1]) if inside else b""
    found = PEM.search(text)
    return found[0] if found else b""


def ends(certificates: list[bytes]) -> list[int]:
    """The Unix times when they end. openssl reads all at once: it takes longer to start."""
    text = b"\n".join(certificates)
    for command in ("crl2pkcs7 -nocrl -certfile /dev/stdin", "pkcs7 -print_certs -noout -text"):
        done = subprocess.run(["openssl", *command.split()], input=text, capture_output=True)
        if done.returncode:
            sys.exit(done.stderr.decode())
        text = done.stdout
    times = re.findall(r"^ *Not After : (.*) GMT", text.decode(), re.MULTILINE)
    return [calendar.timegm(time.strptime(each, "%b %d %H:%M:%S %Y")) for each in times]


def main() -> None:
    """Print the first end."""
    read = {path: certificate(path) for path in map(Path, sys.argv[1:]) if path.exists()}
    found = {path: text for path, text in read.items() if text}
    if found:
        print(*min(zip(ends([*found.values()]), found, strict=True)))


main()
