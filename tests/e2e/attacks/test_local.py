"""A user of the host without rights: what it may not stop, take or read."""

from __future__ import annotations

import contextlib
import json
import resource
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
import yaml

from tasks.layout import COMMAND_LOCK, DAGS, DEPLOY_LOCK, LIB, ROOT
from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import SLACK, Airflow, bring_dag
from tests.sandbox.machine import Machine
from tests.support import wait_for


@pytest.mark.parametrize("lock", [DEPLOY_LOCK, COMMAND_LOCK])
def test_nobody_can_hold_a_lock(lock: str, shell: Shell) -> None:
    # It makes the folder after a boot.
    shell("cd /usr/local/lib/airflow && python3 -Bc 'import commands; commands.take_lock()'")
    said = shell(f"runuser -u nobody -- flock --nonblock {lock} true 2>&1 && echo held || true")
    assert "Permission denied" in said


def refusals(shell: Shell) -> list[str]:
    """What nobody is told who would listen where Airflow does."""
    places = "[('127.0.0.1', 78), ('0.0.0.0', 78), ('127.0.0.1', 8080), ('::1', 8080)]"
    program = f"""
import socket
for address, port in {places}:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, port))
        listener.listen()
        print("listens")
    except OSError as error:
        print(error.strerror)
"""
    said = shell(f"runuser -u nobody -- python3 - <<'END'{program}END")
    return said.splitlines()


def answers(shell: Shell, asked: str) -> bool:
    """Whether the command says 200."""
    return shell(asked) == "200"


def test_nobody_can_pass_for_airflow(shell: Shell) -> None:
    """Neither while Airflow runs, nor while it is stopped."""
    closed = ["Permission denied"] * 2 + ["Address already in use"] * 2
    assert refusals(shell) == closed
    shell("systemctl stop airflow.target")
    try:
        assert refusals(shell) == closed
    finally:
        shell("systemctl start airflow.target")
    for page in ("127.0.0.1", "[::1]"):
        asked = (
            f"curl -s -o /dev/null -w '%{{http_code}}' http://{page}:8080/api/v2/version || true"
        )
        wait_for(partial(answers, shell, asked), 60 + SLACK, f"the page at {page} answers")


# The folder of logs, in which tasks have the user airflow-dags too.


def planting(folder: str) -> str:
    """Commands by which a task leaves what is no log among the logs of one."""
    return (
        f"cd {folder} && mkfifo attempt=1.log.pipe && ln -s /etc/passwd attempt=1.log.link"
        " && mkfifo pipe && ln -s $PWD/pipe attempt=1.log.piped && truncate -s 3G attempt=1.log.big"
    )


def test_what_is_planted_among_the_logs_stops_no_reader(airflow: Airflow, shell: Shell) -> None:
    run = airflow.trigger("airflow_smoke_test")
    runs.ends_well(airflow, "airflow_smoke_test", run)
    folder = f"/var/log/airflow/dag_id=airflow_smoke_test/run_id={run}/task_id=greet"
    shell(f"runuser -u airflow-dags -- sh -c '{planting(folder)}'")
    for _ in range(3):
        page = airflow.log("airflow_smoke_test", run, "greet")
        assert "Hello from a pod" in page and "root:x:0" not in page
        assert "MiB are left out here" in page
    pid = shell("systemctl show -P MainPID airflow-api-server")
    resident = shell(f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status")
    assert int(resident) < 1 << 20  # KiB
    shell(f"rm -r {folder}")


def test_pipes_in_place_of_its_logs_do_not_stop_the_triggerer(
    airflow: Airflow, shell: Shell
) -> None:
    bring_dag("e2e_rights", shell)
    pid = shell("systemctl show -P MainPID airflow-triggerer")
    run = airflow.trigger("e2e_rights_deferred")
    folder = f"/var/log/airflow/dag_id=e2e_rights_deferred/run_id={run}/task_id=wait"
    names = "seq -f attempt=1.log.trigger.%.0f.log 999"
    shell(f"runuser -u airflow-dags -- sh -c 'mkdir -p {folder}; cd {folder}; mkfifo $({names})'")
    runs.ends_well(airflow, "e2e_rights_deferred", run)
    assert "went on after" in airflow.log("e2e_rights_deferred", run, "wait")
    assert shell("systemctl show -P MainPID airflow-triggerer") == pid
    shell(f"rm -r /opt/airflow/dags/e2e_rights.py {folder}")


def test_tasks_do_not_close_the_folder_of_logs_to_others(shell: Shell) -> None:
    said = shell("runuser -u airflow-dags -- chmod 0 /var/log/airflow 2>&1 || true")
    assert "Operation not permitted" in said


def test_no_pod_sees_the_logs_of_the_dag_processor(shell: Shell) -> None:
    assert shell("find /var/log/airflow-dag-processor -name '*.log' -mmin -60") != ""
    assert "airflow-dag-processor" not in shell("cat /etc/airflow/pod_template.yaml")


# The node, and the code of DAGs while it is read.


def test_a_dag_that_takes_all_memory_ends_alone(airflow: Airflow, shell: Shell) -> None:
    limit = "systemctl show -P MemoryMax airflow-dag-processor"
    total = shell("awk '/^MemTotal/ {print $2}' /proc/meminfo")
    assert int(shell(limit)) < int(total) * 1024 / 2
    # So that the test does not take that much of this machine.
    shell("systemctl set-property --runtime airflow-dag-processor.service MemoryMax=700M")
    pid = shell("systemctl show -P MainPID airflow-dag-processor")
    greedy = "taken = []\nwhile True:\n    taken.append(bytearray(b'x') * (64 << 20))\n"
    bring_dag("e2e_greedy", shell, greedy)
    bring_dag(
        "e2e_modest",
        shell,
        "from airflow.sdk import dag\n\n\n@dag()\ndef e2e_modest():\n    ...\n\n\ne2e_modest()\n",
    )

    def known() -> bool:
        found = airflow.request("GET", "/dags?dag_id_pattern=e2e_modest")["dags"]
        return bool(found)

    wait_for(known, 90 + SLACK, "the other DAG is read")
    assert shell("systemctl show -P MainPID airflow-dag-processor") == pid
    assert airflow.health() == dict.fromkeys(airflow.health(), "healthy")
    shell("rm /opt/airflow/dags/e2e_greedy.py /opt/airflow/dags/e2e_modest.py")
    shell("rm -r /run/systemd/system.control/airflow-dag-processor.service.d")
    shell("systemctl daemon-reload")


def test_the_node_keeps_a_part_of_disk_and_memory_free(shell: Shell) -> None:
    node = shell("kubectl get nodes -o name | cut -d/ -f2")
    config = json.loads(shell(f"kubectl get --raw /api/v1/nodes/{node}/proxy/configz"))
    kubelet = config["kubeletconfig"]
    assert kubelet["evictionHard"] == {
        **dict.fromkeys(("nodefs.available", "imagefs.available"), "1Gi"),
        **dict.fromkeys(("nodefs.inodesFree", "imagefs.inodesFree"), "5%"),
    }
    assert kubelet["podPidsLimit"] == 4096
    assert kubelet["systemReserved"] == {"memory": "2Gi"}
    # What pods may have together, also one whose requests are its limits.
    status = json.loads(shell("kubectl get nodes -o json"))["items"][0]["status"]
    has, gives = (int(status[key]["memory"][:-2]) for key in ("capacity", "allocatable"))
    assert gives == has - (2 << 20)  # in Ki
    pinned = shell("ctr -n k8s.io images ls -q 'labels.\"io.cri-containerd.pinned\"==pinned'")
    image = shell("sed -n 's/^ *image: //p' /etc/airflow/pod_template.yaml | head -n 1")
    assert image in pinned.splitlines()


def test_links_among_dags_give_no_right_to_a_file_elsewhere(shell: Shell) -> None:
    """The attack: who may write there swaps a folder and a link, while root gives rights in it."""
    secret = "/root/rt_secrets"
    shell(f"install -d -m 700 {secret} && (umask 077; echo s3cret > {secret}/a.py)")
    shell(f"install -d -o airflow -g airflow {DAGS}/rt && touch {DAGS}/rt/a.py")
    swap = f"""
import os, time
os.chdir("{DAGS}")
end = time.monotonic() + 30
while time.monotonic() < end:
    os.rename("rt", "rt-away"); os.symlink("{secret}", "rt")
    os.remove("rt"); os.rename("rt-away", "rt")
"""
    shell(f"systemd-run --quiet --unit=rt-swap --uid=airflow python3 -c {shlex.quote(swap)}")
    for _ in range(5):
        shell(f"{LIB}/acl.py apply {DAGS} u:airflow-dags:rX")
    shell("systemctl stop rt-swap || true")
    rights = shell(f"getfacl -cp {secret} {secret}/a.py")
    shell(f"rm -r {secret}; rm -rf {DAGS}/rt {DAGS}/rt-away")
    assert "airflow-dags" not in rights


def test_minikubes_folder_can_not_be_planted(shell: Shell) -> None:
    assert shell("stat -c %U:%a /var/tmp/minikube") == "root:700"
    # As if it had been there before minikube.
    shell(
        "chown -R nobody /var/tmp/minikube && chmod 755 /var/tmp/minikube"
        " && runuser -u nobody -- touch /var/tmp/minikube/planted && systemctl reload minikube"
    )
    assert shell("stat -c %U:%a /var/tmp/minikube") == "root:700"
    assert shell("ls /var/tmp/minikube | grep planted || true") == ""
    ready = "kubectl get --raw=/readyz >/dev/null 2>&1 && echo 200 || true"
    wait_for(partial(answers, shell, ready), 60 + SLACK, "the cluster answers")


# The network.


def is_open(machine: Machine, port: int) -> bool:
    """Whether a connection from another machine comes about."""
    with contextlib.suppress(OSError), socket.create_connection((machine.address, port), 3):
        return True
    return False


def test_connections_that_only_begin_lose_their_places(machine: Machine) -> None:
    """More than there are: each begins to speak TLS, so that Linux hands it over."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    trusting = ssl._create_unverified_context()

    def answered() -> bool:
        with contextlib.suppress(OSError):
            plain = socket.create_connection((machine.address, 8081), 3)
            with trusting.wrap_socket(plain) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: e2e\r\n\r\n")
                return b" 404 " in connection.recv(100)
        return False

    with contextlib.ExitStack() as held:
        for _ in range(2000):
            with contextlib.suppress(OSError):
                one = socket.create_connection((machine.address, 8081), 1)
                held.callback(one.close)
                one.sendall(b"\x16")
        wait_for(answered, 15 + SLACK, "nginx has places again")


def test_large_requests_do_not_fill_the_disk(machine: Machine, shell: Shell) -> None:
    """Without a token; nginx keeps bodies on the disk. A task begins and ends meanwhile."""
    trusting = ssl._create_unverified_context()
    lines = ("POST /execution/xcoms/a/b/c/d HTTP/1.1", "Host: e2e", f"Content-Length: {64 << 20}")
    header = "".join(f"{line}\r\n" for line in (*lines, ""))
    answers: list[str] = []
    with contextlib.ExitStack() as held:
        begun = []
        for _ in range(40):
            plain = socket.create_connection((machine.address, 8081), 10)
            begun.append(held.enter_context(trusting.wrap_socket(plain)))
            begun[-1].sendall(header.encode())

        def refused() -> bool:
            for connection in begun.copy():
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                    answers.append(connection.recv(4096).decode().split()[1])
                    begun.remove(connection)
            return len(begun) <= 16

        wait_for(refused, 30 + SLACK, "all but 16 are refused")
        assert len(begun) == 16 and {*answers} == {"503"}
        assert "a task ran as a pod" in shell("airflow-smoke-test")
    said = shell("journalctl -q -o cat -t nginx --since=-10min")
    assert 'limiting connections by zone "airflow_large_from"' in said


# The example of a firewall.


@pytest.fixture(scope="module")
def guarded(machine: Machine, shell: Shell) -> Iterator[None]:
    """The machine has the firewall."""
    shell("DEBIAN_FRONTEND=noninteractive apt-get -qq install nftables >/dev/null 2>&1")
    rules = (ROOT / "inventories/examples/nftables.conf").read_text()
    shell(f"cat > /tmp/nftables.conf <<'END'\n{rules}\nEND")
    assert is_open(machine, 8443)
    for _ in range(2):  # again is the same
        shell("nft -c -f /tmp/nftables.conf && nft -f /tmp/nftables.conf")
    yield
    shell("nft delete table inet airflow; apt-get -qq purge nftables >/dev/null 2>&1")
    assert is_open(machine, 8443)


def test_the_example_of_a_firewall_leaves_the_needed_ports_open(
    guarded: None, machine: Machine, shell: Shell
) -> None:
    assert [is_open(machine, port) for port in (443, 8081, 8443, 10250)] == [True, *[False] * 3]
    assert "a task ran as a pod" in shell("airflow-smoke-test")


# Begins to speak TLS to a port, again and again before nginx gives a connection up after 5 seconds.
# Without the firewall this takes all of its places.
HOLD = """
import resource, socket, sys, time
from collections import deque
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
held = deque()
while True:
    while held and held[0][0] < time.monotonic() - 4:
        held.popleft()[1].close()
    try:
        one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.05)
        one.sendall(b"\\x16")
        held.append((time.monotonic(), one))
    except OSError:
        time.sleep(0.01)
"""


@contextlib.contextmanager
def a_user(machine: Machine, shell: Shell) -> Iterator[None]:
    """A user of the host holds the port of pods."""
    start = "systemd-run --quiet --unit=e2e-hold --uid=nobody -p LimitNOFILE=8192"
    shell(f"{start} python3 -c {shlex.quote(HOLD)} 127.0.0.1 8081")
    try:
        yield
    finally:
        shell("systemctl stop e2e-hold")


@contextlib.contextmanager
def a_pod(machine: Machine, shell: Shell) -> Iterator[None]:
    """A pod, as tasks have one, holds it."""
    pod = yaml.safe_load(shell("cat /etc/airflow/pod_template.yaml"))
    pod["metadata"]["name"] = "e2e-hold"
    # The template has HOST_IP.
    pod["spec"]["containers"][0]["command"] = ["python", "-c", HOLD, "$(HOST_IP)", "8081"]
    shell(f"kubectl -n airflow apply -f - <<'END'\n{json.dumps(pod)}\nEND")
    try:
        yield
    finally:
        shell("kubectl -n airflow delete pod e2e-hold --grace-period=0 --force 2>&1")


@contextlib.contextmanager
def a_machine(machine: Machine, shell: Shell) -> Iterator[None]:
    """Another machine holds the port of people, which nginx serves with the same processes."""
    with subprocess.Popen([sys.executable, "-c", HOLD, machine.address, "443"]) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("attack", "port", "allowed"),
    [(a_user, 8081, 100), (a_pod, 8081, 200), (a_machine, 443, 200)],
    ids=["user", "pod", "machine"],
)
def test_connections_that_only_begin_do_not_hold_nginx(
    attack: Callable[[Machine, Shell], AbstractContextManager[None]],
    port: int,
    allowed: int,
    guarded: None,
    machine: Machine,
    shell: Shell,
) -> None:
    """A task begins and ends meanwhile."""

    def held() -> int:
        return int(shell(f"ss -Htn state established sport = :{port} | wc -l"))

    with attack(machine, shell):
        wait_for(lambda: held() > allowed * 0.9, 60 + SLACK, "it has what it may have")
        assert "a task ran as a pod" in shell("airflow-smoke-test")
        wait_for(lambda: held() > allowed * 0.9, 10 + SLACK, "it went on until now")
        # Others have some too.
        assert held() < allowed + 50
