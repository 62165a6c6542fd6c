#!/usr/bin/python3 -B
"""kubeconfig.py check|apply ACCOUNT PATH GROUP: the file PATH leads to the cluster as the service
account ACCOUNT, with the token in PATH.d/token. Only root and GROUP can read both.
kubeconfig.py renew: no token of this host is past the half of its life. airflow-token.timer calls
this each minute.
kubeconfig.py print: print the kubeconfig of the deploy itself, complete, for another host.
Written by the deploy of Airflow.

A kubeconfig names a program that prints the token and its end. Airflow's clients run it again at
that time; they would read a token itself, or a file with one, only when they start.
"""

import base64
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from commands import advised, put
from lib import fail, host, take_surroundings, usage, words

CREDENTIAL = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
# A cluster may give less: then the token is renewed earlier.
LIFETIME = "168h"
# How to reach a cluster and know that it is the right one. minikube's notes change at each start.
REACHING = (
    "server",
    "certificate-authority-data",
    "tls-server-name",
    "proxy-url",
    "insecure-skip-tls-verify",
)


class Account(NamedTuple):
    """A service account of the host's processes, its kubeconfig, and the group that reads it."""

    name: str
    path: Path
    group: str

    @property
    def token(self) -> Path:
        """The file with the account's token and its end, in a folder of its own: there a new one
        belongs to the folder's group, so the renewal needs no right to give files away."""
        return Path(f"{self.path}.d/token")


def ask(kubectl: list[str], *arguments: str) -> str:
    """The answer of kubectl; fails with its words."""
    command = [*kubectl, "--request-timeout=20s", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise RuntimeError("kubectl does not end for a minute") from None
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split()))
    return done.stdout


def of_deploy(kind: str) -> dict[str, str]:
    """The cluster, or the user, of the deploy's own kubeconfig, complete in itself."""
    view = json.loads(
        ask(words("KUBECTL"), "config", "view", "--minify", "--flatten", "--raw", "-o", "json")
    )
    return dict(view[f"{kind}s"][0][kind])


def reached() -> dict[str, str]:
    """How to reach the cluster."""
    found = of_deploy("cluster")
    return {key: found[key] for key in REACHING if key in found}


def written(cluster: Mapping[str, object], name: str, user: object, namespace: str) -> str:
    """The text of a kubeconfig with one context."""
    context = {"cluster": "cluster", "user": name, "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "airflow", "context": context}],
        "current-context": "airflow",
    }
    return json.dumps(content, indent=2)


def show() -> None:
    """Print the deploy's own kubeconfig below its name. The server in it is the node's address."""
    text = written(reached(), "deploy", of_deploy("user"), "default")
    print(f"# kubeconfig\n{text}")


def kubeconfig(account: Account, uid: str) -> str:
    """A kubeconfig of this account. It differs once the account was made again with the same name,
    and services that hold a token of the old one restart."""
    cluster = reached()
    if host()["NODE_IS_HOST"]:
        # Its own address may change (DHCP), and a proxy may be for others. minikube's certificate
        # of the API is for this address too.
        cluster["server"] = re.sub(r"^https://.*:(\d+)", r"https://127.0.0.1:\1", cluster["server"])
    program = {
        "apiVersion": CREDENTIAL["apiVersion"],
        "command": "/bin/cat",
        "args": [str(account.token)],
        "interactiveMode": "Never",
    }
    return written(cluster, uid, {"exec": program}, host()["NAMESPACE"])


def request(kubectl: list[str], account: Account) -> str:
    """A new token of the account, as the clients of the cluster read it. It is in no argument."""
    answer = ask(
        kubectl,
        *("-n", host()["CONTROL_NAMESPACE"], "create", "token", account.name),
        *(f"--duration={LIFETIME}", "-o", "json"),
    )
    status = {key: json.loads(answer)["status"][key] for key in ("token", "expirationTimestamp")}
    return json.dumps({**CREDENTIAL, "status": status})


def is_past_half(account: Account) -> bool:
    """Whether the account's token has lived half of its life, or can't be read."""
    try:
        token = json.loads(account.token.read_text())["status"]["token"]
        claims = token.split(".")[1]
        life = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return bool(time.time() > (life["iat"] + life["exp"]) / 2)
    except (OSError, ValueError, LookupError, TypeError):
        return True


def check(account: Account) -> None:
    """Exit with a sentence if something differs."""
    for path, mode in (
        *((account.path, 0o640), (account.token, 0o640)),
        (account.token.parent, 0o2750),
    ):
        if not path.exists() or access(path) != (os.geteuid(), account.group, mode):
            fail(f"{path} is not there, or not root's and {account.group}'s alone")
    if is_past_half(account):
        fail(f"the token of {account.name} has lived half of its life")
    client = [words("KUBECTL")[0], f"--kubeconfig={account.path}"]
    who = json.loads(ask(client, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    if who["username"] != f"system:serviceaccount:{host()['CONTROL_NAMESPACE']}:{account.name}":
        fail(f"{account.token} has a token of {who['username']}")
    if account.path.read_text() != f"{kubeconfig(account, who['uid'])}\n":
        fail(f"{account.path} leads to another cluster, or to an earlier account")


def access(path: Path) -> tuple[int, str, int]:
    """The owner, the group and the mode of a file."""
    found = path.stat()
    return found.st_uid, path.group(), found.st_mode & 0o7777


def apply(account: Account) -> None:
    """Write the token, then the kubeconfig that names it."""
    get = ("get", "serviceaccount", account.name, "-o", "jsonpath={.metadata.uid}")
    config = kubeconfig(account, ask(words("KUBECTL"), "-n", host()["CONTROL_NAMESPACE"], *get))
    folder = account.token.parent
    folder.mkdir(exist_ok=True)
    subprocess.run(["chgrp", account.group, folder], check=True)
    folder.chmod(0o2750)
    put(account.token, request(words("KUBECTL"), account), mode=0o640)
    put(account.path, config, mode=0o640, group=account.group)


def accounts() -> Iterator[Account]:
    """The accounts of this host that have their kubeconfig."""
    each = iter(words("CLUSTER_ACCOUNTS"))
    for name, path, group in zip(each, each, each, strict=True):
        if Path(path).exists():
            yield Account(name, Path(path), group)


def renew() -> None:
    """Replace each token that is past the half of its life; the old one is valid until its end."""
    old = [each for each in accounts() if is_past_half(each)]
    if not old:
        return
    lock = Path(host()["DEPLOY_LOCK"])
    if lock.exists():
        descriptor = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # a deploy or a change of the accounts is under way: in the next minute
    # The deploy's own login may need a program or a file that is there only while it runs. But it
    # is the one that is left after the host was off for longer than a token is valid.
    renewal = [words("KUBECTL")[0], f"--kubeconfig={host()['RENEWAL_KUBECONFIG']}"]
    for account in old:
        try:
            token = request(renewal, account)
        except RuntimeError:
            token = request(words("KUBECTL"), account)
        put(account.token, token, mode=0o640)
        # The journal of the unit has only notices and worse.
        print(f"<5>The token of {account.name} was renewed", flush=True)


def main() -> None:
    """Check, apply, renew or print."""
    os.umask(0o077)
    prefix = ""
    try:
        match sys.argv[1:]:
            case ["check", name, path, group]:
                check(Account(name, Path(path), group))
            case ["apply", name, path, group]:
                apply(Account(name, Path(path), group))
            case ["renew"]:
                prefix = "<3>"
                renew()
            case ["print"]:
                show()
            case _:
                usage()
    except RuntimeError as error:
        fail(f"{prefix}{advised(str(error))}")


if __name__ == "__main__":
    if sys.argv[1:] != ["renew"]:  # a timer's, each minute, and nobody gave that other surroundings
        take_surroundings()
    main()
