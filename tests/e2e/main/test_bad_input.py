"""On a bare host: a dry run, and everything that must be refused, leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.snapshots import SNAPSHOT
from tests.e2e.support import deploy


@pytest.fixture
def unchanged(shell: Shell) -> Iterator[None]:
    """Fails the test if the host is not as it was before."""
    before = shell(SNAPSHOT)
    yield
    assert shell(SNAPSHOT).splitlines() == before.splitlines()


def test_dry_run_on_a_bare_host(unchanged: None) -> None:
    run = deploy("--dry")
    assert run.code == 0, run.output
    assert "Airflow | Install Airflow (200 packages, 10 to 60 s)" in run.planned


EXISTING: dict[str, object] = {
    "kubernetes_provider": "existing",
    "kubernetes_kubeconfig": "/tmp/kubeconfig",
    "execution_api_host": "10.0.0.1",
    "worker_image": "localhost/airflow-worker:somebodys",
    "dags_source": "git",
    "dags_git_bundles": {"team": {"url": "https://git.invalid/dags.git"}},
}
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: office
clusters:
- name: office
  cluster:
    server: https://127.0.0.1:6444
contexts:
- name: office
  context:
    cluster: office
    user: ada
users:
- name: ada
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: cloud-login
"""
COMMAND_AS_ADDRESS = KUBECONFIG.replace("127.0.0.1:6444", "a;touch${IFS}/root/e2e;b:1")
# What makes the input bad: a command on the host, settings; and words of the finding.
BAD_INPUT: dict[str, tuple[str, dict[str, object], list[str]]] = {
    "misspelt setting": (
        "true",
        {"web_prot": 8081},
        ["web_prot is not a setting", "web_port"],
    ),
    "wrong type": ("true", {"web_port": "eighty"}, ["web_port", "integer"]),
    "kubeconfig missing": (
        "rm -f /tmp/kubeconfig",
        EXISTING,
        ["kubernetes_kubeconfig: /tmp/kubeconfig is not there"],
    ),
    "cluster unreachable": (
        f"cat > /tmp/kubeconfig <<'END'\n{KUBECONFIG}END",
        EXISTING,
        ["https://127.0.0.1:6444", "does not answer", "that is this host itself"],
    ),
    "address that is a command": (
        f"cat > /tmp/kubeconfig <<'END'\n{COMMAND_AS_ADDRESS}END",
        EXISTING,
        # Braces may have a secret in them: they do not leave the host.
        ["names https://a;touch$, which does not answer"],
    ),
    "address with a port": (
        "true",
        {"execution_api_host": "10.0.0.1:8081"},
        ["execution_api_host: '10.0.0.1:8081' is no address", "without a port"],
    ),
    "option that would undo the deploy": (
        "true",
        {"airflow_config": {"api": {"host": "0.0.0.0"}}},
        ["airflow_config: the deploy itself decides api.host: use web_host"],
    ),
    "line break in an argument": (
        "true",
        {"minikube_extra_args": ["--x\nExecStart=/bin/false"]},
        ["minikube_extra_args.0", "line break"],
    ),
    "kubeconfig that needs a program": (
        f"cat > /tmp/kubeconfig <<'END'\n{KUBECONFIG}END",
        EXISTING,
        ["logs in with the program cloud-login, which is not on the host"],
    ),
    "context that does not exist": (
        f"cat > /tmp/kubeconfig <<'END'\n{KUBECONFIG}END",
        EXISTING | {"kubernetes_context": "lab"},
        ["has no context lab", "office"],
    ),
    "port in use": (
        "systemctl is-active e2e-port || systemd-run --quiet --unit e2e-port"
        " systemd-socket-activate -l 8080 /bin/cat;"
        " timeout 60 sh -c 'until ss -Hltn sport = :8080 | grep -q .; do :; done'",
        {},
        ["port 8080 is held by systemd-socket", "web_port"],
    ),
    "offline file missing": (
        "mkdir -p /tmp/offline && ln -sf /srv/offline/* /tmp/offline && rm /tmp/offline/kubectl",
        {"offline_dir": "/tmp/offline"},
        ["/tmp/offline", "kubectl is missing"],
    ),
    "offline file damaged": (
        "mkdir -p /tmp/offline && ln -sf /srv/offline/* /tmp/offline &&"
        " rm /tmp/offline/kubectl && echo damaged > /tmp/offline/kubectl",
        {"offline_dir": "/tmp/offline"},
        ["/tmp/offline", "kubectl does not have the checksum"],
    ),
    "image not there": (
        "true",
        {"worker_image": "localhost/airflow-worker:not-there"},
        ["localhost/airflow-worker:not-there is not among the node's images"],
    ),
    "registry unreachable": (
        "true",
        {"worker_image": "registry.invalid/airflow:1"},
        ["worker_image", "registry.invalid can't be reached"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_refused_before_anything_is_touched(case: str, shell: Shell, unchanged: None) -> None:
    prepare, settings, said = BAD_INPUT[case]
    shell(prepare)
    run = deploy(settings=settings)
    shell("systemctl stop e2e-port 2>/dev/null; rm -rf /tmp/offline /tmp/kubeconfig")
    assert run.code != 0
    assert "Starting operation" not in run.output
    assert "Traceback" not in run.output
    for words in said:
        assert words in run.output


def test_all_findings_come_at_once() -> None:
    wrong = EXISTING | {"offline_dir": "/tmp/nowhere", "worker_image": "registry.invalid/nobody:1"}
    run = deploy(settings=wrong)
    assert run.code != 0
    for words in ("/tmp/kubeconfig is not there", "/tmp/nowhere", "registry.invalid"):
        assert words in run.output


def test_inventory_that_does_not_exist() -> None:
    run = deploy(inventory="inventories/nowhere.py")
    assert run.code != 0
    assert "there is no host to work on" in run.output
