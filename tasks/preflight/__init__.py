"""Find what would stop the deploy, all of it at once, before anything is changed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyinfra import host, logger
from pyinfra.api import DeployError, FactBase

from tasks import layout
from tasks.cluster import programs
from tasks.layout import ADMIN_PASSWORD, MIGRATED, MINIKUBE_PROFILE
from tasks.lib import lock
from tasks.preflight import kubeconfig
from tasks.settings import RELEASES, HostSettings, Settings
from tasks.worker import pod, registry

MIN_MEMORY_GIB = 3.5  # a "4 GB" machine; Airflow needs 1.1, Kubernetes 0.8, a task pod 0.25
MIN_DISK_GIB = 10
UPGRADE_DISK_GIB = 3  # for a venv of 0.5, its image as archive and unpacked, 0.8 each
MAX_CLOCK_SKEW = 60  # seconds; tokens of the Execution API allow only 10 between host and pods

# Ports of minikube's node that another Kubernetes on the same machine would hold, with the program
# that rightly does: https://kubernetes.io/docs/reference/networking/ports-and-protocols/
CLUSTER_PORTS = {2379: "etcd", 8443: "kube-apiserver", 10250: "kubelet"}


class Report(NamedTuple):
    """What the host says of itself; one value a question, lists where several may apply."""

    values: dict[str, list[str]]

    def one(self, key: str) -> str:
        """The only answer to a question, empty if there is none."""
        return next(iter(self.values.get(key, [])), "")

    def all(self, key: str) -> list[str]:
        """All answers to a question."""
        return self.values.get(key, [])


# Answers as lines «key value». Only what every Debian has: no python, no curl.
QUESTIONS = r"""
say() { echo "$1 $2"; }
holder=$(eval "$ask_holder")
[ -n "$holder" ] && say locked "$holder"
[ -d /run/systemd/system ] && say systemd yes
say uid "$(id -u)"
. /etc/os-release
say system "$ID ${VERSION_CODENAME:-$VERSION_ID}"
say machine "$(uname -m)"
say memory_kib "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
for place in /opt /var; do
    say disk_kib "$place $(df -Pk $place | awk 'NR == 2 {print $4}')"
done
say time "$(date +%s)"
[ -e /opt/airflow/venv/bin/airflow ] && say installed yes
[ -s "$migrated" ] && say migrated "$(cat "$migrated")"
say database_kib "$(du -skc /var/lib/postgresql/*/main/base 2>/dev/null | awk 'END {print $1 + 0}')"
holder() {  # who listens on a port, as «process name», nothing if nobody does
    ss -Hltnp "sport = :$1" 2>/dev/null |
        sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\2 \1/p' | head -n 1
}
for own in $own_ports; do
    held=$(holder ${own%%:*})
    if [ -n "$held" ] && ! grep -qs "${own#*:}" "/proc/${held%% *}/cgroup"; then
        say port "${own%%:*} $held"
    fi
done
for expected in $cluster_ports; do
    held=$(holder ${expected%%:*})
    [ -n "$held" ] && [ "${held#* }" != "${expected#*:}" ] && say port "${expected%%:*} $held"
done
connects() { timeout 5 bash -c "</dev/tcp/$1/$2" 2>/dev/null; }
if [ -n "$minikube_profile" ]; then
    say kubernetes "$(sed -n 's/^[[:space:]]*"KubernetesVersion": "v\([0-9.]*\)".*/\1/p' \
        "$minikube_profile" 2>/dev/null | head -n 1)"
fi
if [ -n "$kubeconfig" ]; then
    if [ ! -r "$kubeconfig" ]; then
        say kubeconfig missing
    else
        grep -E "^[ -]*($told_keys):" "$kubeconfig" | sed 's/{.*//; s/^/told |/'
        values() { sed -nE "s/^[ -]*($1): *[\"']?([^\"' ]+).*/\2/p" "$kubeconfig" | sort -u; }
        for server in $(values server); do
            address=${server#*://}; address=${address%%/*}; port=443
            case $address in
            \[*\]:*) port=${address##*:}; address=${address%:*} ;;
            \[*\]) ;;
            *:*) port=${address##*:}; address=${address%:*} ;;
            esac
            address=${address#[}; address=${address%]}
            connects "$address" "$port" && say reached "$server"
        done
        for file in $(values 'certificate-authority|client-certificate|client-key'); do
            (cd "${kubeconfig%/*}/" && [ -r "$file" ]) || say no_file "$file"
        done
        for tool in $(values command); do
            (cd "${kubeconfig%/*}/" && command -v "$tool" >/dev/null) || say no_tool "$tool"
        done
    fi
fi
if [ -n "$registry_host" ]; then
    port=${registry_host#*:}; [ "$port" != "$registry_host" ] || port=443
    connects "${registry_host%%:*}" "$port" || say registry unreachable
fi
if [ -n "$offline_dir" ]; then
    if [ ! -d "$offline_dir" ]; then
        say offline "the folder is not there"
    elif [ ! -r "$offline_dir/SHA256SUMS" ]; then
        say offline "SHA256SUMS is missing"
    else
        cd "$offline_dir"
        for file in $offline_files; do
            [ -r "$file" ] || say offline "$file is missing"
            grep -q " [ *]$file\$" SHA256SUMS || say offline "SHA256SUMS does not name $file"
        done
        # minikube would take down a cluster that runs, for another version than it then finds.
        for file in $minikube_files; do
            [ ! -r $file ] || grep -aqF "$kubernetes_version" $file ||
                say offline "$file is not of Kubernetes $kubernetes_version"
        done
        # Reading a gigabyte takes seconds: only files that changed since they were last used.
        if [ "$(eval "$offline_look")" != "$(cat $offline_stamp 2>/dev/null)" ]; then
            sha256sum --check --quiet SHA256SUMS 2>/dev/null | while IFS=: read -r file verdict; do
                [ -r "$file" ] && say offline "$file does not have the checksum of SHA256SUMS"
            done
        fi
    fi
else
    for server in $download_hosts; do
        connects "$server" 443 || say unreachable "$server"
    done
fi
printf %s "$claims" | while read -r key name folder; do
    timeout 5 test -d "$folder" || say claim "$key $name $folder"
    # A cluster that is not there yet, or does not answer now, is asked later on.
    [ -x "${kubectl%% *}" ] && [ -z "$($kubectl get pvc "$name" --ignore-not-found -o name \
        --request-timeout=5s 2>/dev/null || echo unknown)" ] && say claim "$key $name"
done
if [ -n "$local_image" ]; then
    ctr -n k8s.io images ls -q "name==$local_image" 2>/dev/null | grep -q . ||
        say image missing
fi
true
"""


class HostReport(FactBase[Report]):
    """Everything that preflight wants to know of a host, in one round trip."""

    def command(self, variables: str) -> str:
        """The questions, preceded by the assignments of the variables that they use."""
        return variables + QUESTIONS

    @staticmethod
    def default() -> Report:
        """No answers at all."""
        return Report({})

    def process(self, output: Iterable[str]) -> Report:
        """Collect the answers by question."""
        values: dict[str, list[str]] = {}
        for line in output:
            key, _, value = line.partition(" ")
            values.setdefault(key, []).append(value)
        return Report(values)


def check(settings: Settings) -> HostSettings:
    """Return the settings with what the host's release decides filled in.

    Raises DeployError with every finding and its cure, one a line, if the deploy can't succeed.
    """
    report = host.get_fact(HostReport, variables=_variables(settings, lock.take()))
    found = findings(settings, report, now=time.time())
    if found:
        raise DeployError(
            f"{host.name} is not ready for the deploy; nothing was changed:\n"
            + "\n".join(f"  - {finding}" for finding in found)
        )
    if not report.one("installed"):
        page = f"http://localhost:{settings.web.port} of the host itself"
        if settings.web.is_public:
            page = f"port {settings.web.https_port} of the host, with https"
        logger.info(
            "    First deploy of this host: about 4 minutes with a fast connection. Then the web\n"
            f"    page is at {page}, for the user {settings.web.admin_user}; root finds the\n"
            f"    password in {ADMIN_PASSWORD} on the host."
        )
    return settings.for_release(report.one("system").split()[1])


def _variables(settings: Settings, lock_owner: str) -> str:
    image = settings.worker.image or ""
    brought = [each.get("metadata", {}).get("name") for each in settings.kubernetes.extra_manifests]
    claims = [
        f"{key} {claim.name} {claim.host_path}\n"
        for key, claim in settings.claims.items()
        if not claim.size and claim.name not in brought
    ]
    variables = {
        "claims": "".join(claims),
        "migrated": MIGRATED,
        "ask_holder": lock.other_holder(lock_owner),
        "kubectl": f"{settings.kubectl} -n {settings.kubernetes.namespace}",
        "own_ports": " ".join(f"{port}:{unit}" for port, (_, unit) in _own_ports(settings).items()),
        "minikube_profile": MINIKUBE_PROFILE if settings.kubernetes.uses_minikube else "",
        "minikube_files": "kubeadm kubelet" if settings.kubernetes.uses_minikube else "",
        "kubernetes_version": f"v{settings.kubernetes.version}",
        "kubeconfig": settings.kubernetes.kubeconfig or "",
        "told_keys": "|".join(kubeconfig.TOLD_KEYS),
        "registry_host": settings.worker.registry.host if settings.worker.registry else "",
        "offline_dir": settings.offline.dir or "",
        "offline_files": " ".join(download.file for download in programs.needed(settings)),
        "offline_stamp": layout.OFFLINE_STAMP,
        "offline_look": programs.OFFLINE_LOOK,
        "download_hosts": " ".join(sorted({d.host for d in programs.needed(settings)})),
        "cluster_ports": (
            " ".join(f"{port}:{name}" for port, name in CLUSTER_PORTS.items())
            if settings.node_is_host
            else ""
        ),
        # Only a node that is the host can be asked what images it has.
        "local_image": image if settings.node_is_host and _is_local(image) else "",
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def findings(settings: Settings, report: Report, now: float) -> list[str]:
    """All that would stop the deploy, each with its cure; `now` is this machine's Unix time."""
    if not report.one("systemd"):
        return [
            "systemd does not run here, and Airflow's services need it: choose a host that booted"
            " with systemd, or try the deploy in the sandbox with ./tests/sandbox/up"
        ]
    if holder := report.one("locked"):
        return [lock.refusal(holder)]
    return [
        *_system(report),
        *_resources(report),
        *_upgrade(settings, report),
        *_kubernetes_version(settings, report),
        *_clock(report, now),
        *_ports(settings, report),
        *_cluster(settings, report),
        *_sources(settings, report),
        *_claims(settings, report),
        *_image(settings, report),
        *_pod_template(settings),
    ]


def _system(report: Report) -> Iterator[str]:
    if report.one("uid") != "0":
        yield 'not root: log in as root, or give the host the inventory data "_sudo": True'
    name, _, codename = report.one("system").partition(" ")
    if codename not in RELEASES:
        known = ", ".join(f"Debian {r.number} ({code})" for code, r in RELEASES.items())
        yield f"{name} {codename} is not supported: use {known}"
    if (machine := report.one("machine")) != "x86_64":
        yield f"the processor is {machine}: the pinned downloads are for x86_64"


def _resources(report: Report) -> Iterator[str]:
    memory = int(report.one("memory_kib")) / 2**20
    if memory < MIN_MEMORY_GIB:
        yield f"{memory:.1f} GiB of memory: at least {MIN_MEMORY_GIB} are needed, add some"
    if report.one("installed"):
        return
    for place, free in _free(report):
        if free < MIN_DISK_GIB:
            yield (
                f"{free:.1f} GiB of disk are free in {place}:"
                f" at least {MIN_DISK_GIB} are needed, free some"
            )


def _free(report: Report) -> Iterator[tuple[str, float]]:
    """Folders and the GiB that are free in them."""
    for answer in report.all("disk_kib"):
        place, free = answer.split()
        yield place, int(free) / 2**20


def _upgrade(settings: Settings, report: Report) -> Iterator[str]:
    """What would stop a change of the version or of the packages."""
    migrated, _, _ = report.one("migrated").partition(" ")
    codename = report.one("system").partition(" ")[2]
    if not migrated or codename not in RELEASES:
        return
    there, _, _ = migrated.partition("-")
    if _numbers(settings.airflow.version) < _numbers(there):
        yield (
            f"airflow_version: the database is Airflow {there}'s, and {settings.airflow.version}"
            " can't be trusted with it: `sudo airflow-rollback` on the host goes back to before the"
            f' last upgrade, with its data; else write "{there}"'
        )
    elif migrated != settings.for_release(codename).venv_key:
        needed = UPGRADE_DISK_GIB + int(report.one("database_kib")) / 2**20
        for place, free in _free(report):
            if free < needed:
                yield (
                    f"{free:.1f} GiB of disk are free in {place}, and another version or other"
                    f" packages of Airflow need {needed:.1f}, a backup among it: free some"
                )


def _kubernetes_version(settings: Settings, report: Report) -> Iterator[str]:
    """What minikube would refuse once the cluster is down, or Kubernetes does not support."""
    there, wanted = report.one("kubernetes"), settings.kubernetes.version
    if not there:
        return
    (major, minor, *_), now = _numbers(wanted), _numbers(there)
    if _numbers(wanted) < now:
        yield (
            f"kubernetes_version: the cluster has Kubernetes {there}, and minikube takes none back"
            f' to an older one, as {wanted}: write "{there}", or, where nobody needs more of the'
            " cluster than the deploy brings, run `minikube delete` on the host first"
        )
    elif [major, minor - 1] > now[:2]:
        yield (
            f"kubernetes_version: the cluster has Kubernetes {there}, and none may skip a minor"
            f" version on its way to {wanted}: deploy with one of {now[0]}.{now[1] + 1} first"
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def _clock(report: Report, now: float) -> Iterator[str]:
    skew = int(report.one("time")) - now
    if abs(skew) > MAX_CLOCK_SKEW:
        yield (
            f"the clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's:"
            " set it, and keep it right with systemd-timesyncd or chrony"
        )


def _own_ports(settings: Settings) -> dict[int, tuple[str, str]]:
    """Ports of the deploy's own services: the setting, and the unit that may hold it."""
    units = {"web_port": "airflow-api-server", "metrics_port": layout.METRICS_UNIT}
    return {port: (key, units.get(key, layout.NGINX_UNIT)) for key, port in settings.ports.items()}


def _ports(settings: Settings, report: Report) -> Iterator[str]:
    own = _own_ports(settings)
    for answer in report.all("port"):
        port, pid, name = answer.split(maxsplit=2)
        cure = (
            "stop it: another Kubernetes or etcd can't share the machine with minikube's"
            " driver none"
            if int(port) not in own
            else f"stop it, or choose another port with {own[int(port)][0]}"
        )
        yield f"port {port} is held by {name} (process {pid}): {cure}"


def _cluster(settings: Settings, report: Report) -> Iterator[str]:
    path = settings.kubernetes.kubeconfig
    if report.one("kubeconfig") == "missing":
        yield (
            f"kubernetes_kubeconfig: {path} is not there: copy the cluster's kubeconfig to"
            " that path on the host"
        )
    elif path:
        told = [line.removeprefix("|") for line in report.all("told")]
        named = (report.all(key) for key in ("reached", "no_file", "no_tool"))
        yield from kubeconfig.findings(
            path, settings.kubernetes.context, kubeconfig.Report(told, *named)
        )


def _sources(settings: Settings, report: Report) -> Iterator[str]:
    for problem in report.all("offline"):
        yield f"offline_dir: {settings.offline.dir}: {problem}: make or copy the folder again"
    if report.one("installed"):
        return
    for server in report.all("unreachable"):
        yield (
            f"{server} does not answer on port 443 and downloads come from there: open the way, or"
            " give the files with offline_dir"
        )


def _claims(settings: Settings, report: Report) -> Iterator[str]:
    for answer in report.all("claim"):
        key, name, *folder = answer.split()
        if folder:
            yield (
                f"{key}: the host has no folder {folder[0]}, where the files of the claim {name}"
                " are to be (host_path): mount them there"
            )
        else:
            yield (
                f"{key}: there is no claim {name} in the namespace"
                f" {settings.kubernetes.namespace}: make it, or give its size and the deploy makes"
                " it"
            )


def _is_local(image: str) -> bool:
    """Whether an image comes from no registry, but was loaded into the nodes."""
    return image.startswith("localhost/")


def _image(settings: Settings, report: Report) -> Iterator[str]:
    if settings.worker.registry and report.one("registry") == "unreachable":
        yield (
            f"worker_registry: {settings.worker.registry.host} does not answer: check the name, the"
            " port and the network between the host and the registry"
        )
    if report.one("image") == "missing":
        yield (
            f"worker_image: {settings.worker.image} is not among the node's images, and localhost/"
            " is no registry: load it first, or leave worker_image out to have it built"
        )
    elif (
        settings.worker.image
        and not _is_local(settings.worker.image)
        and (problem := registry.problem(settings.worker.image))
    ):
        yield f"worker_image: {problem}"


def _pod_template(settings: Settings) -> Iterator[str]:
    if settings.worker.pod_template:
        try:
            pod.own_template(settings.worker.pod_template)
        except DeployError as problem:
            yield str(problem)
