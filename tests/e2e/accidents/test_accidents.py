"""Typing errors, lost keys, interrupted commands and certificates that end."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tasks import layout
from tasks.layout import ROOT
from tasks.lib import lock
from tests.e2e.conftest import Shell
from tests.e2e.data import SECRET, connection, counts, decrypted
from tests.e2e.support import Airflow, deploy
from tests.support import wait_for
from tests.unit import fake

ACCEPT = layout.ACCEPT
KEY = f"{layout.SECRETS}/fernet-key"
KEPT = "e2e_accidents"
POSTGRES = "postgresql@$(ls /etc/postgresql)-main"


def is_settled(shell: Shell) -> None:
    """The host is as the deploy wants it, and a task runs."""
    run = deploy()
    assert run.code == 0, run.output
    assert deploy().changed == []
    assert "a task ran as a pod" in shell("airflow-smoke-test")


# PostgreSQL refuses the first two when it reads its files, and the last one when it starts.
TYPING_ERRORS = {
    'unrecognized configuration parameter "shared_bufers"': {"shared_bufers": "1GB"},
    'invalid value for parameter "work_mem": "lots"': {"work_mem": "lots"},
    'could not access file "no_such_library"': {"shared_preload_libraries": "no_such_library"},
    # PostgreSQL starts with it, and refuses each session.
    'could not access file "no_such_module"': {"session_preload_libraries": "no_such_module"},
}


@pytest.mark.parametrize("says", TYPING_ERRORS)
def test_a_typing_error_in_postgres_config_ends_the_deploy_and_not_the_host(
    says: str, shell: Shell
) -> None:
    file = "/etc/postgresql/*/main/conf.d/airflow.conf"
    before = shell(f"cat {file}")
    run = deploy(settings={"postgres_config": TYPING_ERRORS[says]})
    assert run.code != 0
    assert says in run.output
    assert shell(f"cat {file}") == before
    shell(f"systemctl restart {POSTGRES}")
    assert shell(f"systemctl is-active {POSTGRES}") == "active"
    assert shell(f"ls {file}.before {file}.new 2>/dev/null || true") == ""


def test_other_options_are_taken_and_given_back(shell: Shell) -> None:
    ask = "cd / && runuser -u postgres -- psql -XAtqc 'show max_connections'"
    before = shell(ask)
    run = deploy(settings={"postgres_config": {"max_connections": "117"}})
    assert run.code == 0, run.output
    assert shell(ask) == "117"
    is_settled(shell)
    assert shell(ask) == before


@pytest.mark.parametrize("address", ["192.0.2.7", "no-such-name.invalid"])
def test_an_address_that_nginx_can_not_listen_at_is_refused(address: str, shell: Shell) -> None:
    run = deploy(settings={"web_host": address})
    assert run.code != 0
    assert f"web_host: {address} is no" in run.output and "nothing was changed" in run.output
    shell("systemctl restart nginx")
    assert shell("systemctl is-active nginx") == "active"


def test_nginx_and_systemd_read_a_file_before_it_takes_its_place(shell: Shell) -> None:
    site, unit = layout.NGINX_SITE, layout.MINIKUBE_UNIT
    shell(f"cp {site} {site}.new && {ACCEPT} site {site}.new")
    shell(f"sed -i '0,/listen .*;/s//listen 192.0.2.7:4443 ssl;/' {site}.new")
    said = shell(f"! {ACCEPT} site {site}.new 2>&1")
    assert "192.0.2.7" in said and "the new airflow is refused" in said
    shell(f"cp {unit} {unit}.new && {ACCEPT} unit {unit}.new")
    shell(f"sed -i '/^Exec/d' {unit}.new")
    assert "the new minikube.service is refused" in shell(f"! {ACCEPT} unit {unit}.new 2>&1")
    shell(f"rm {site}.new {unit}.new; nginx -t -q")


@pytest.fixture(scope="module")
def kept(airflow: Airflow) -> str:
    """A connection whose password is encrypted."""
    airflow.request("POST", "/connections", connection(KEPT))
    return KEPT


@pytest.mark.parametrize("lose", [f"rm {KEY}", f": > {KEY}"])
def test_a_lost_key_comes_back_from_the_backup_that_the_deploy_names(
    lose: str, kept: str, shell: Shell
) -> None:
    file, before = shell("airflow-backup"), shell(f"sha256sum {KEY}")
    shell(lose)
    run = deploy()
    assert run.code != 0
    assert f"{KEY} is lost or empty" in run.output and file in run.output
    assert shell(f"test -s {KEY} && echo made again || true") == ""
    command = re.search(r"sudo tar -xOf \S+ host\.tar \| sudo tar -xC / \S+", run.output)
    assert command
    shell(command[0].replace("sudo ", ""))
    assert shell(f"sha256sum {KEY}") == before
    assert decrypted(shell, kept) == SECRET
    is_settled(shell)


def test_the_backup_that_was_just_made_is_there_after_a_clock_that_was_ahead(shell: Shell) -> None:
    shell(
        f"cd {layout.BACKUPS} && touch -d '+1 year'"
        " airflow-2001010{1,2,3,4,5,6,7}T000000Z.tar before-upgrade-2001010{1,2,3}T000000Z.tar"
    )
    for command in ("airflow-backup", "airflow-backup before-restore-20010104T000000Z"):
        assert shell(f"test -s $({command}) && echo is there") == "is there"
    assert shell(f"ls {layout.BACKUPS} | grep -c ^airflow-") == "7"
    shell(f"rm {layout.BACKUPS}/*-200101*")


def test_a_changed_backup_is_refused(kept: str, shell: Shell) -> None:
    file, before = shell("airflow-backup"), counts(shell)
    shell(
        f"rm -rf /root/changed && mkdir /root/changed && cd /root/changed && tar -xf {file} &&"
        " mkdir -p etc/systemd/system && : > etc/systemd/system/airflow-rt.service &&"
        " tar -rf host.tar etc && sha256sum about database.dump host.tar > SHA256SUMS &&"
        " tar -cf /root/changed.tar SHA256SUMS MAC about database.dump host.tar"
    )
    said = shell("! airflow-restore /root/changed.tar 2>&1")
    assert "is not as this host has made it" in said and "nothing was changed" in said
    assert counts(shell) == before


def test_an_encrypted_backup_comes_back_with_the_private_key(kept: str, shell: Shell) -> None:
    shell("apt-get -qq install --yes age >/dev/null; rm -f /root/key; age-keygen -o /root/key")
    run = deploy(settings={"retention_backup_recipient": shell("age-keygen -y /root/key")})
    assert run.code == 0, run.output
    file, before = shell("airflow-backup"), counts(shell)
    assert file.endswith(".tar.age")
    assert "age-encryption.org" in shell(f"head -c 30 {file}")
    assert "--identity KEY" in shell(f"! airflow-restore {file} 2>&1")
    print(shell(f"airflow-restore --identity /root/key {file}"))
    assert counts(shell) == before and decrypted(shell, kept) == SECRET
    is_settled(shell)


def test_a_restore_that_is_cut_off_does_not_start_and_goes_on(kept: str, shell: Shell) -> None:
    file, before = shell("airflow-backup"), counts(shell)
    # It is killed when the databases have changed their names, as the keys should follow.
    shell(
        "printf '%s\\n' '#!/bin/sh'"
        """ 'case $* in "-C / -xf"*) kill -9 $PPID; exit 1 ;; esac' 'exec /usr/bin/tar "$@"'"""
        " > /usr/local/bin/tar; chmod 755 /usr/local/bin/tar"
    )
    shell(f"! airflow-restore {file} >/dev/null 2>&1; rm /usr/local/bin/tar")
    assert shell(f"cat {layout.RESTORE_MARK}") == f"airflow-restore {file}"
    shell("systemctl start airflow.target; sleep 2")
    assert "active" not in shell("systemctl is-active airflow-scheduler || true").split()
    run = deploy()
    assert run.code != 0
    assert "a restore was cut off" in run.output and f"sudo airflow-restore {file}" in run.output
    print(shell(shell(f"cat {layout.RESTORE_MARK}")))
    assert counts(shell) == before and decrypted(shell, kept) == SECRET
    assert shell(f"ls -d {layout.STATE}/restore* 2>/dev/null || true") == ""
    is_settled(shell)


CERTS = "/var/lib/minikube/certs"
CERTIFICATE = f"{CERTS}/apiserver-kubelet-client.crt"
# Signs the certificate in a file again, also for a time that is over; a key beside it stays.
SIGN = """
import re, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

path, authority, days = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
text, now = path.read_text(), datetime.now(UTC)
(block,) = re.findall("-----BEGIN CERTIFICATE.*?END CERTIFICATE-----", text, re.DOTALL)
old = x509.load_pem_x509_certificate(block.encode())
ca = x509.load_pem_x509_certificate(Path(f"{authority}.crt").read_bytes())
key = serialization.load_pem_private_key(Path(f"{authority}.key").read_bytes(), None)
new = x509.CertificateBuilder(ca.subject, old.subject, old.public_key(), old.serial_number)
new = new.not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=days))
for each in old.extensions:
    new = new.add_extension(each.value, each.critical)
signed = new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode().strip()
path.write_text(text.replace(block, signed))
"""


def sign(shell: Shell, path: str, authority: str, days: int) -> None:
    """Let a certificate of Kubernetes end in so many days."""
    shell(f"/opt/airflow/venv/bin/python - {path} {authority} {days} <<'END'\n{SIGN}END")


def test_a_certificate_of_kubernetes_that_ends_soon_is_renewed(shell: Shell) -> None:
    sign(shell, CERTIFICATE, f"{CERTS}/ca", 20)
    month = 30 * 86400
    assert shell(f"openssl x509 -checkend {month} -noout -in {CERTIFICATE} || true") == (
        "Certificate will expire"
    )
    run = deploy()
    assert run.code == 0, run.output
    assert "minikube | Renew Kubernetes' certificates" in run.changed
    shell(f"openssl x509 -checkend {10 * month} -noout -in {CERTIFICATE}")
    # With it the cluster's API asks kubelet, as for a pod's log.
    wait_for(
        lambda: shell("kubectl -n kube-system logs --tail=1 etcd-$(hostname) 2>&1 || true"),
        60,
        "kubelet answers",
    )
    ask = "cd / && runuser -u airflow -- psql -XAtqd airflow -c"
    query = "select min(not_after) > now() + '300 days' from deploy.certificate"
    assert shell(f"{ask} {shlex.quote(query)}") == "t"
    is_settled(shell)


def test_a_cluster_whose_certificates_have_ended_comes_back(shell: Shell) -> None:
    """The API server does not reach etcd, and kubelet, which would start it again, does not run."""
    kubelets = layout.KUBELET_CERTIFICATE
    sign(shell, kubelets, f"{CERTS}/ca", -1)
    sign(shell, f"{CERTS}/apiserver-etcd-client.crt", f"{CERTS}/etcd/ca", -1)
    stop = "crictl ps -q --name kube-apiserver | xargs crictl --timeout=1m stop"
    shell(f"systemctl restart kubelet; {stop}")
    wait_for(
        lambda: shell("kubectl get --raw=/readyz 2>/dev/null || echo no") == "no", 60, "no API"
    )
    wait_for(
        lambda: shell("systemctl is-active kubelet || true") != "active", 60, "kubelet does not run"
    )
    run = deploy()
    assert run.code == 0, run.output
    assert "minikube | Wait for minikube (1 to 2 minutes the first time)" in run.changed
    for path in (kubelets, f"{CERTS}/apiserver-etcd-client.crt"):
        shell(f"openssl x509 -checkend {300 * 86400} -noout -in {path}")
    is_settled(shell)


def test_a_kubelet_that_somebody_stopped_runs_after_a_deploy(shell: Shell) -> None:
    shell("systemctl stop kubelet; sed -i '/control-plane.minikube.internal/d' /etc/hosts")
    run = deploy()
    assert run.code == 0, run.output
    assert shell("systemctl is-active kubelet") == "active"
    assert "control-plane.minikube.internal" in shell("cat /etc/hosts")
    assert shell("kubectl wait node --all --for=condition=Ready --timeout=10s")
    is_settled(shell)


def test_a_reboot_between_two_tokens_of_the_cluster_fails_no_task(shell: Shell) -> None:
    """As a change of the token leaves the host that is cut off between the two."""
    shell(f"echo airflow-rotate cluster-token > {layout.TOKEN_MARK}")
    shell("/usr/local/lib/airflow/cluster-objects.py replace; systemctl stop airflow.target")
    shell("systemctl start airflow.target; sleep 2")
    for unit in ("airflow-scheduler", "airflow-triggerer"):
        assert "active" not in shell(f"systemctl is-active {unit} || true").split()
    run = deploy()
    assert run.code == 0, run.output
    assert "Kubernetes | Finish the change of the cluster-token" in run.changed
    is_settled(shell)


def test_a_certificate_of_the_page_that_has_ended_is_refused() -> None:
    run = deploy(settings={"web_certificate": fake.pair(days=-1)})
    assert run.code != 0
    assert "web_certificate: certificate has ended on" in run.output


def test_an_interrupted_dpkg_is_healed_and_locks_are_waited_for(shell: Shell) -> None:
    shell(
        "rm -rf /root/rt && mkdir -p /root/rt/DEBIAN && cd /root/rt &&"
        " printf '%s\\n' 'Package: e2e-accident' 'Version: 1' 'Architecture: all'"
        " 'Maintainer: nobody <n@example.com>' 'Description: nothing' > DEBIAN/control &&"
        " dpkg-deb --build . /root/rt.deb >/dev/null && dpkg --unpack /root/rt.deb >/dev/null"
    )
    state = "dpkg-query -Wf '${db:Status-Abbrev}' e2e-accident"
    assert shell(state).strip() == "iU"
    shell("dpkg --purge --force-depends socat >/dev/null 2>&1")
    shell(
        "systemd-run --quiet python3 -c 'import fcntl, time;"
        ' file = open("/var/lib/apt/lists/lock", "w"); fcntl.lockf(file, fcntl.LOCK_EX);'
        " time.sleep(20)'; sleep 1"
    )
    run = deploy()
    assert run.code == 0, run.output
    assert shell(state).strip() == "ii"
    shell("dpkg --purge e2e-accident >/dev/null")
    is_settled(shell)


def test_all_of_it_survives_a_reboot(kept: str, shell: Shell) -> None:
    units = f"{POSTGRES} nginx minikube airflow-scheduler airflow-api-server"
    shell("systemctl stop airflow.target minikube nginx")
    shell(f"systemctl restart {POSTGRES} && systemctl start minikube nginx airflow.target")
    wait_for(
        lambda: set(shell(f"systemctl is-active {units} || true").split()) == {"active"},
        180,
        "all units are active",
    )
    assert decrypted(shell, kept) == SECRET
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_a_closed_laptop_gives_the_lock_away_and_does_not_go_on_when_it_wakes(
    shell: Shell, tmp_path: Path
) -> None:
    said = tmp_path / "output"
    command = ["pyinfra", "--yes", "inventories/sandbox.py", "deploy.py"]
    with said.open("w") as output:
        asleep = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "Starting operation: " in said.read_text(), 120, "it has begun", 0.1)
        asleep.send_signal(signal.SIGSTOP)  # its connection stays open
        run = deploy()
        assert run.code != 0
        assert "another deploy of this host runs, by " in run.output
        is_free = f"flock -n {layout.DEPLOY_LOCK} echo yes || true"
        wait_for(lambda: shell(is_free) == "yes", lock.LEASE + 30, "the lock is free")
        run = deploy()
        assert run.code == 0, run.output
        asleep.send_signal(signal.SIGCONT)
        assert asleep.wait(120) != 0
        assert lock.LOST.split(",")[0] in " ".join(said.read_text().split())
    finally:
        asleep.kill()
        asleep.wait()
    is_settled(shell)
