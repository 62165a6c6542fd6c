#!/usr/bin/python3 -B
"""certificates.py check|apply: Kubernetes' own certificates in its node are valid for 30 days or
more, and the database tells Prometheus when they end, and nginx's.
certificates.py check|apply kubernetes: the same without a database.

kubeadm makes them for a year, and minikube renews them only when it starts on their last day.
airflow-certificate.timer calls the first form each day, and airflow-cluster-certificates.timer the
second one, where the cluster has a host of its own. It also heals a cluster whose certificates have
ended. Written by the deploy of Airflow.
"""

import base64
import calendar
import glob
import io
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from commands import lock, output, path, succeeds
from lib import fail, host, take_surroundings, usage, words

LIB = Path(__file__).resolve().parent
SOON = 30 * 86400  # seconds
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Static pods, which read their certificates when they start.
COMPONENTS = "^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$"
LOGS = "journalctl -u minikube says why"


class End(NamedTuple):
    """When a certificate ends, as Unix time, and its file."""

    time: int
    file: str

    def is_soon(self) -> bool:
        """Whether it has ended, or will within 30 days."""
        return self.time < time.time() + SOON

    def day(self) -> str:
        """The day for people."""
        return time.strftime("%F", time.localtime(self.time))


def certificate(name: str, text: bytes) -> bytes:
    """The first certificate in a file, as PEM; empty if there is none.

    A kubeconfig (.conf) has its certificate inside, or names the file, which is one of the others.
    """
    if name.endswith(".conf"):
        inside = re.search(rb"^ *client-certificate-data: *(\S+)", text, re.MULTILINE)
        text = base64.b64decode(inside[1]) if inside else b""
    found = PEM.search(text)
    return found[0] if found else b""


def times(certificates: list[bytes]) -> list[int]:
    """The Unix times when they end. openssl reads all at once: it takes longer to start."""
    text = b"\n".join(certificates)
    for command in ("crl2pkcs7 -nocrl -certfile /dev/stdin", "pkcs7 -print_certs -noout -text"):
        done = subprocess.run(["openssl", *command.split()], input=text, capture_output=True)
        if done.returncode:
            fail(done.stderr.decode())
        text = done.stdout
    found = re.findall(r"^ *Not After : (.*) GMT", text.decode(), re.MULTILINE)
    return [calendar.timegm(time.strptime(each, "%b %d %H:%M:%S %Y")) for each in found]


def first(files: Mapping[str, bytes]) -> list[End]:
    """The first end of certificates in these files; empty if there is none."""
    read = {name: certificate(name, text) for name, text in files.items()}
    found = {name: text for name, text in read.items() if text}
    if not found:
        return []
    return [min(map(End, times([*found.values()]), found))]


def here(patterns: str) -> Iterator[Path]:
    """The files of this host that are like one of the patterns."""
    for each in patterns.split():
        yield from map(Path, sorted(glob.glob(each)))


def first_here(patterns: str) -> list[End]:
    """The first end of certificates of this host."""
    return first({str(file): file.read_bytes() for file in here(patterns)})


def node(*command: str) -> list[str]:
    """A command in the node, which is this host or a container."""
    return [*words("IN_NODE"), *command]


def first_in_node(patterns: str) -> list[End]:
    """The first end of certificates in the node; none if there is no node to ask."""
    command = node("sh", "-c", f"tar -chPf - {patterns} 2>/dev/null")
    archive = subprocess.run(command, stdout=subprocess.PIPE).stdout
    if not archive:
        return []
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        read = ((each.name, opened.extractfile(each)) for each in opened)
        return first({name: file.read() for name, file in read if file})


def kubernetes() -> End | None:
    """The first end of Kubernetes' certificates, also of those that minikube has on the host."""
    if not host()["CLUSTER_CERTIFICATES"]:
        return None
    found = first_in_node(host()["CLUSTER_CERTIFICATES"])
    return min([*found, *first_here(host()["MINIKUBE_CERTIFICATES"])], default=None)


# The renewal


def is_own(name: str, kind: str) -> bool:
    """Whether a path of the node itself is of this kind, and belongs to the user who runs this."""
    command = node("sh", "-c", 'echo $(id -u) $2; stat -c "%u %F" "$1"', "sh", name, kind)
    lines = (output(*command, silent=True) or "").splitlines()
    return len(lines) == 2 and lines[0] == lines[1]


def has_config() -> bool:
    """Whether kubeadm's file is there. With a file of another user, it would act for that user."""
    config = path("KUBEADM_CONFIG")
    return is_own(str(config.parent), "directory") and is_own(str(config), "regular file")


def kubeadm(failure: str, *arguments: str) -> None:
    """Run kubeadm; fails with this sentence and its own words."""
    command = node(host()["KUBEADM"], *arguments, "--config", host()["KUBEADM_CONFIG"])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        fail(f"{failure}: {done.stdout.strip()}")


def any_is_soon(found: list[End]) -> bool:
    """Whether the first of these is due."""
    return any(each.is_soon() for each in found)


def renew(unread: Path) -> None:
    """Renew all of Kubernetes' certificates. `unread` is there until the components read them."""
    # minikube's unit takes the folder from others, and minikube writes the file again.
    if not has_config() and not succeeds("systemctl", "reload-or-restart", "minikube"):
        config = host()["KUBEADM_CONFIG"]
        fail(f"{config} is not there or not root's, and minikube does not write it again: {LOGS}")
    if not has_config():
        fail(
            f"minikube has not written {host()['KUBEADM_CONFIG']} again, so kubeadm can not renew"
            " certificates"
        )
    unread.touch()
    kubeadm("kubeadm does not renew Kubernetes' certificates", "certs", "renew", "all")
    kubelets = (host()["KUBELET_KUBECONFIG"], host()["KUBELET_CERTIFICATE"])
    if any_is_soon(first_in_node(" ".join(kubelets))):
        # kubelet renews its own long before, while it runs. It does not start with one that has
        # ended while the host was off: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/troubleshooting-kubeadm/
        succeeds(*node("rm", "-f", *kubelets))
        failure = "kubeadm does not renew kubelet's certificate"
        kubeadm(failure, "init", "phase", "kubeconfig", "kubelet")
        if not succeeds(*node("systemctl", "restart", "kubelet")):
            fail("kubelet does not start with its new certificate: see above why")
    if any_is_soon(first_here(host()["MINIKUBE_CERTIFICATES"])):
        # minikube makes those that are missing when it starts: root's, and the API server's.
        for file in here(host()["MINIKUBE_CERTIFICATES"]):
            file.unlink()
        if not succeeds("systemctl", "reload-or-restart", "minikube"):
            fail(f"minikube does not make its certificates again: {LOGS}")


def restart(unread: Path) -> None:
    """Kubernetes' components start again, with their new certificates. Pods run on."""
    found = output(*node("crictl", "ps", "-q", "--name", COMPONENTS))
    if found is None:
        # containerd is down. cluster.sh calls this before it starts the cluster: it may not fail.
        print("Kubernetes' components start again with their new certificates when crictl answers")
        return
    # crictl's own timeout of 2 s is too short for a busy host.
    if found and not succeeds(*node("crictl", "--timeout=1m", "stop", *found.split())):
        fail("Kubernetes' components do not start again with their new certificates: see above why")
    ready = (*words("KUBECTL"), "get", "--raw=/readyz", "--request-timeout=5s")
    # If none ran, the cluster is down, and its start is for others to wait for.
    for _ in range(60 if found else 0):
        if succeeds(*ready, silent=True):
            break
        time.sleep(2)
    unread.unlink()
    if (end := kubernetes()) is None:
        fail("Kubernetes' certificates were renewed, but the node does not show them")
    if end.is_soon():
        fail(f"kubeadm has renewed Kubernetes' certificates, but not {end.file}")
    print(f"Kubernetes' certificates were renewed; the first expires on {end.day()}")


# The record


def sql(question: str, *, silent: bool = False) -> str | None:
    """The answer of the database to its owner; none if it refuses."""
    psql = (str(LIB / "owner.sh"), "psql", "-XAtqF", " ", "-v", "ON_ERROR_STOP=1", "-c", question)
    return output(*psql, silent=silent)


def ends(of_kubernetes: End | None) -> dict[str, int]:
    """When each group of certificates ends; without those of which there is none."""
    web = first_here(host()["WEB_CERTIFICATES"])
    found = {"kubernetes": of_kubernetes, "web": web[0] if web else None}
    return {name: end.time for name, end in found.items() if end}


def recorded() -> dict[str, int]:
    """The same as the database has it; empty if it has no such table."""
    table = "deploy.certificate order by name"
    said = sql(f"select name, extract(epoch from not_after)::bigint from {table}", silent=True)
    lines = (line.split() for line in (said or "").splitlines())
    return {name: int(end) for name, end in lines}


def is_readable() -> bool:
    """Whether Prometheus' exporter, if there is one, may read the table; it may have come later."""
    return not sql(
        f"select rolname from pg_roles where rolname = '{host()['METRICS_ROLE']}' and not"
        " (has_schema_privilege(oid, 'deploy', 'usage')"
        " and has_table_privilege(oid, 'deploy.certificate', 'select'))"
    )


def record(found: dict[str, int]) -> None:
    """Write the ends into the database."""
    role = sql(f"select rolname from pg_roles where rolname = '{host()['METRICS_ROLE']}'")
    grant = f"grant usage on schema deploy to {role}; grant select on deploy.certificate to {role};"
    rows = ", ".join(f"('{name}', to_timestamp({end}))" for name, end in found.items())
    written = sql(
        "set client_min_messages to warning; create schema if not exists deploy;"
        " create table if not exists deploy.certificate"
        " (name text primary key, not_after timestamptz not null);"
        f" {grant if role else ''} begin; delete from deploy.certificate;"
        f" {f'insert into deploy.certificate values {rows};' if rows else ''} commit"
    )
    if role is None or written is None:
        fail("the ends of certificates were not recorded: see above why")


# The command line


def check(unread: Path, *, alone: bool) -> None:
    """Fail if something has to be done."""
    if unread.exists():
        fail("Kubernetes' components have not started again since their certificates were renewed")
    if (end := kubernetes()) and end.is_soon():
        fail(f"{end.file} expires on {end.day()}")
    if alone:
        return
    if recorded() != ends(end):
        fail("the database does not have the ends of all certificates")
    if not is_readable():
        fail("Prometheus' exporter can not read the ends of certificates")


def apply(unread: Path, *, alone: bool) -> None:
    """Renew and record."""
    # A deploy that starts the timer comes here at the same time as the timer's service.
    locks = path("DEPLOY_LOCK").parent
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks.chmod(0o700)
    (locks / "certificates.lock").touch()
    if lock(locks / "certificates.lock", 300) is None:
        fail("another certificates.py has been at work for five minutes")
    if (end := kubernetes()) and end.is_soon():
        renew(unread)
    if unread.exists():
        restart(unread)
    if not alone:
        record(ends(kubernetes()))


def main() -> None:
    """Check or apply."""
    if sys.argv[1:2] not in (["check"], ["apply"]) or sys.argv[2:] not in ([], ["kubernetes"]):
        usage()
    # Several hosts would overwrite each other's certificates in their one database, and have
    # neither an exporter that reads it nor a cluster of their own.
    if host().get("SEVERAL_HOSTS"):
        return
    unread = path("STATE") / "certificates-unread"
    (check if sys.argv[1] == "check" else apply)(unread, alone=len(sys.argv) > 2)


if __name__ == "__main__":
    take_surroundings()
    main()
