#!/usr/bin/python3 -B
"""nginx's certificate in FOLDER is right for these names and addresses, and for the host's own.

    host-certificate.py check|apply [--days DAYS] [--left DAYS] FOLDER [NAME...]

Written by the deploy of Airflow, which calls it, as airflow-certificate.timer does. certificates.py
has Kubernetes' own certificates.

An authority (CA) of the host's own signs it. Its key is made once and has two certificates: ca.pem,
which people import, permits only these names and those below them, so a thief of the key can't pass
for servers of other names. pods-ca.pem has no such limit: tasks trust it for this host only, and a
running task keeps the authority that it read at its start, also when the host gets another name.
A certificate keeps a name that is not wanted any more until there is another reason for a new
one, so it loses none while the name service is away.
"""

import argparse
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from commands import output, put, succeeds
from lib import fail, take_surroundings

LIB = Path(__file__).resolve().parent
KEY = "ca-key.pem"
FOR_PEOPLE = "ca.pem"
FOR_PODS = "pods-ca.pem"
SERVER = "server.pem"
AUTHORITY_DAYS = 3650


def hostname() -> str:
    """The host's name without its domain."""
    return output("hostname", silent=True) or ""


def with_own(names: Iterable[str]) -> list[str]:
    """These names and addresses, and the host's own."""
    domain = output("hostname", "-f", silent=True) or ""  # the name service may not know it
    lines = (output(str(LIB / "own-addresses.sh"), silent=True) or "").splitlines()
    addresses = (line.rpartition(" ")[2] for line in lines)
    found = {"localhost", "127.0.0.1", *names, hostname(), domain, *addresses}
    return sorted(found - {""})


def kind(name: str) -> str:
    """The kind of a name in the words of openssl."""
    return "IP" if ":" in name or not name.strip("0123456789.") else "DNS"


def permitted(name: str) -> str:
    """The limit of an authority to this name, in the words of openssl."""
    one = "/255.255.255.255" if ":" not in name else "/" + ":".join(["ffff"] * 8)
    return f"permitted;{kind(name)}:{name}{one if kind(name) == 'IP' else ''}"


# Questions


def shown(file: str, *options: str) -> str:
    """What openssl shows of a certificate; empty if it does not fulfil the options."""
    return output("openssl", "x509", "-in", file, "-noout", *options, silent=True) or ""


def holds(authority: str, soon: int) -> bool:
    """Whether a file is a certificate of the authority's key, for long enough."""
    key = output("openssl", "pkey", "-in", KEY, "-pubout", silent=True)
    return key is not None and key in shown(authority, "-checkend", str(soon), "-pubkey")


def is_limited() -> bool:
    """Whether people's authority permits only some names."""
    return "Name Constraints: critical" in shown(FOR_PEOPLE, "-ext", "nameConstraints")


def verify(certificate: str, *options: str) -> bool:
    """Whether people's authority alone vouches for a certificate."""
    command = ("openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", FOR_PEOPLE)
    return succeeds(*command, *options, certificate, silent=True)


def people_trust(certificate: str, soon: int) -> bool:
    """Whether people who imported their authority trust a certificate."""
    return holds(FOR_PEOPLE, soon) and is_limited() and verify(certificate)


def fits(names: list[str], soon: int) -> bool:
    """Whether nothing has to be done."""
    options = {"DNS": "-verify_hostname", "IP": "-verify_ip"}
    return (
        holds(FOR_PODS, soon)
        and people_trust(SERVER, soon)
        and shown(SERVER, "-checkend", str(soon)) != ""
        and all(verify(SERVER, options[kind(name)], name) for name in names)
    )


# The making


def made(*command: str) -> str:
    """The output of openssl, which must succeed. Then its remarks are of no use."""
    done = subprocess.run(["openssl", *command], capture_output=True, text=True)
    if done.returncode:
        fail(done.stderr.strip())
    return done.stdout.strip()


def new_key() -> str:
    """A new key."""
    return made("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def new(subject: str, days: int, options: Iterable[str], extensions: Iterable[str]) -> str:
    """A new certificate."""
    lines = ["[req]", "distinguished_name = name", "x509_extensions = more", "[name]", "[more]"]
    lines += ["subjectKeyIdentifier = hash", *extensions, ""]
    Path("request.new").write_text("\n".join(lines))
    command = ("req", "-x509", "-config", "request.new", "-subj", subject, "-days", str(days))
    return made(*command, *options)


def make_authority(file: str, *more: str) -> None:
    """Make a certificate of the authority's key.

    Clients find an authority by its name, which therefore stays when the host gets another one.
    """
    same = shown(FOR_PODS, "-subject", "-nameopt", "compat").removeprefix("subject=").strip()
    certificate = new(
        same or f"/O=Airflow's authority/CN={hostname()}",
        AUTHORITY_DAYS,
        ["-key", KEY],
        [
            "basicConstraints = critical, CA:TRUE, pathlen:0",
            "keyUsage = critical, keyCertSign, cRLSign",
            "extendedKeyUsage = serverAuth",
            *more,
        ],
    )
    put(Path.cwd() / file, certificate, mode=0o644)


def apply(names: list[str], days: int, soon: int) -> None:
    """Make a new certificate, and those parts of the authority that are not right."""
    os.umask(0o077)
    if not succeeds("openssl", "pkey", "-in", KEY, "-noout", silent=True):
        put(Path.cwd() / KEY, new_key())
    # An earlier version of the deploy made one certificate of the key, without a limit.
    if not Path(FOR_PODS).exists() and holds(FOR_PEOPLE, soon) and not is_limited():
        Path(FOR_PODS).hardlink_to(FOR_PEOPLE)
    if not holds(FOR_PODS, soon):
        make_authority(FOR_PODS)
    key = new_key()
    Path("key.new").write_text(f"{key}\n")
    certificate = new(
        f"/O=Airflow/CN={hostname()}",
        days,
        ["-key", "key.new", "-CA", FOR_PODS, "-CAkey", KEY],
        [
            "basicConstraints = critical, CA:FALSE",
            "keyUsage = critical, digitalSignature",
            "extendedKeyUsage = serverAuth",
            "authorityKeyIdentifier = keyid",
            f"subjectAltName = {','.join(f'{kind(name)}:{name}' for name in names)}",
        ],
    )
    Path("certificate.new").write_text(f"{certificate}\n")
    if not people_trust("certificate.new", soon):
        limit = ",".join(map(permitted, names))
        make_authority(FOR_PEOPLE, f"nameConstraints = critical, {limit}")
    for file in Path().glob("*.new"):
        file.unlink()
    # The last step: a run that is killed before leaves work, so the next one tidies up as well.
    put(Path.cwd() / SERVER, f"{certificate}\n{key}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("check", "apply"))
    # PostgreSQL's has no timer, and lasts for longer: see postgres-certificate.sh.
    parser.add_argument("--days", type=int, default=825, help="of a new certificate")
    parser.add_argument("--left", type=int, default=30, help="of a certificate that is good enough")
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    # openssl x509 would load all authorities of the host, which takes it most of its time.
    os.environ["SSL_CERT_FILE"] = os.devnull
    soon = given.left * 86400
    try:
        os.chdir(given.folder)
        names = with_own(given.names)
        if fits(names, soon):
            return
        if given.verb == "check":
            fail(
                f"the certificate in {given.folder} is missing, ends within {given.left} days"
                f" or lacks one of these names: {' '.join(given.names)}"
            )
        apply(names, given.days, soon)
    except OSError as error:
        fail(f"the certificate in {given.folder} can't be checked or made: {error}")


if __name__ == "__main__":
    take_surroundings()
    main()
