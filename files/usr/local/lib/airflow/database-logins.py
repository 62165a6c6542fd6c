#!/usr/bin/python3 -B
"""database-logins.py check|apply: the roles with which other hosts log in have the passwords that
are in their files on this host, in the form that libpq reads. A password is made once.
database-logins.py print: print these files, and the authority of the certificate, each below its
name. Written by the deploy of Airflow.

PostgreSQL gets no password, only the SCRAM verifier that it keeps of one (RFC 5803).
"""

import base64
import hashlib
import hmac
import secrets
import subprocess
import sys
from pathlib import Path

from commands import put
from lib import fail, host, take_surroundings, usage, words

ROUNDS = 4096  # as PostgreSQL's own
# The name of each role's file in the output.
NAMES = {"airflow": "owner", "airflow-dags": "dags"}


def files() -> dict[str, Path]:
    """The file with the login of each role."""
    return dict(zip(NAMES, map(Path, words("DATABASE_LOGINS")), strict=True))


def password(role: str, file: Path) -> str:
    """The password in a file; empty if there is none."""
    try:
        *place, known, found = file.read_text().strip().split(":")
    except (OSError, ValueError):
        return ""
    return found if (place, known) == (["*"] * 3, role) else ""


def verifier(word: str, salt: bytes, rounds: int = ROUNDS) -> str:
    """The verifier that PostgreSQL keeps of a password of ASCII characters."""
    salted = hashlib.pbkdf2_hmac("sha256", word.encode(), salt, rounds)
    client, server = (
        hmac.digest(salted, b"%s Key" % each, "sha256") for each in (b"Client", b"Server")
    )
    parts = (salt, hashlib.sha256(client).digest(), server)
    shown, *keys = (base64.b64encode(part).decode() for part in parts)
    return f"SCRAM-SHA-256${rounds}:{shown}${':'.join(keys)}"


def ask(statements: str) -> str:
    """Run statements, which nobody sees among the processes."""
    # An error should not quote the statement.
    options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
    done = subprocess.run(
        ["runuser", "-u", "postgres", "--", "psql", *options, "postgres"],
        input=statements,
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        fail("PostgreSQL does not take the passwords of Airflow's roles: see above why")
    return done.stdout.strip()


def has(role: str, word: str) -> bool:
    """Whether a role has a password."""
    kept = ask(f"select rolpassword from pg_authid where rolname = '{role}'")
    method, _, rest = kept.partition("$")
    number, _, salt = rest.partition("$")[0].partition(":")
    if method != "SCRAM-SHA-256" or not word:
        return False
    return hmac.compare_digest(kept, verifier(word, base64.b64decode(salt), int(number)))


def make(role: str, file: Path) -> str:
    """Write a file with a new password, which survives a loss of power if PostgreSQL's does."""
    word = secrets.token_urlsafe(32)
    put(file, f"*:*:*:{role}:{word}", mode=0o400)
    return word


def check() -> None:
    """Fail unless each role has the password of its file."""
    for role, file in files().items():
        if not has(role, password(role, file)):
            fail(f"the role {role} has another password than {file}, or there is none")


def apply() -> None:
    """Give each role the password of its file, which is made if it is missing."""
    for role, file in files().items():
        word = password(role, file) or make(role, file)
        if not has(role, word):
            kept = verifier(word, secrets.token_bytes(16))
            ask(f"alter role \"{role}\" password '{kept}'")


def show() -> None:
    """Print all files."""
    found = {NAMES[role]: file.read_text() for role, file in files().items()}
    authority = Path(host()["DATABASE_SERVER_AUTHORITY"])
    if authority.exists():
        found["authority"] = authority.read_text()
    print("".join(f"# {name}\n{text}" for name, text in found.items()), end="")


def main() -> None:
    """Check, apply or print."""
    match sys.argv[1:]:
        case ["check"]:
            check()
        case ["apply"]:
            apply()
        case ["print"]:
            show()
        case _:
            usage()


if __name__ == "__main__":
    take_surroundings()
    main()
