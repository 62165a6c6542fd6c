"""The content of a backup, its argument: names only."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

PATH = sys.argv[1]


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file
    return file.read()


with tarfile.open(PATH) as archive:
    outside = archive.getnames()
    held = {name: content(archive, name) for name in outside}
with tarfile.open(fileobj=io.BytesIO(held["host.tar"])) as archive:
    files = archive.getnames()
listed = subprocess.run(
    ["pg_restore", "--list"], input=held["database.dump"], stdout=subprocess.PIPE, check=True
).stdout.decode()
sums = dict(line.split()[::-1] for line in held["SHA256SUMS"].decode().splitlines())
status = os.stat(PATH)
answer = {
    "parts": outside,
    "right_checksums": [
        name for name, wanted in sums.items() if hashlib.sha256(held[name]).hexdigest() == wanted
    ],
    "files": files,
    "tables": re.findall(r"TABLE DATA public (\S+) ", listed),
    "about": held["about"].decode().splitlines(),
    "mode": oct(status.st_mode & 0o7777)[2:],
    "owner": [status.st_uid, status.st_gid],
}
print(json.dumps(answer))
