#!/usr/bin/env -S python3 -B
"""certificate-ends.py FILE...|-: print when the first of these certificates ends, as Unix time, and
its file; nothing if there is none. - takes the files from the archive (tar) in the standard input.
certificates.sh calls it. Written by the deploy of Airflow.

A kubeconfig (.conf) has its certificate inside, or names the file, which is one of the others.
"""

import base64
import calendar
import io
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def files(arguments: list[str]) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file that is there."""
    if arguments == ["-"]:
        archive = sys.stdin.buffer.read()
        if archive:  # otherwise there is no node to ask
            with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
                for each in opened:
                    if content := opened.extractfile(each):
                        yield each.name, content.read()
        return
    for path in map(Path, arguments):
        if path.exists():
            yield str(path), path.read_bytes()


def certificate(name: str, text: bytes) -> bytes:
    """The first certificate in a file, as PEM; empty if there is none."""
    if name.endswith(".conf"):
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
    read = {name: certificate(name, text) for name, text in files(sys.argv[1:])}
    found = {name: text for name, text in read.items() if text}
    if found:
        print(*min(zip(ends([*found.values()]), found, strict=True)))


main()
