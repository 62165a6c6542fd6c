"""The worker image: it changes under running tasks, old ones go, a registry may hold it, and it may
be somebody's own."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.servers import DOCKER_HUB, RegistryServer
from tests.e2e.support import Airflow, bring_dag, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

DAGS = "/opt/airflow/dags"
STATSD = "/root/e2e-statsd"  # what Airflow's metrics were
REPOSITORY = "team/airflow"
HUB_ADDRESS = "192.0.2.80"  # nobody's: https://www.rfc-editor.org/rfc/rfc5737
PUSH = "Worker image | Build the worker image and push it (about 2 minutes)"
PRUNE = "Worker image | Remove old worker images"
TRY = "Worker image | Try the worker image in a pod (about 10 s)"
# A Debian package that is installed only where somebody accepted its licence, and that links a
# manual as Java's packages do, in a folder that is a source of apt; and an admin who accepted.
LICENCE = r"""
set -e
mkdir -p /srv/e2e-packages /tmp/e2e-licence/DEBIAN /tmp/e2e-licence/usr/bin /tmp/e2e-licence/usr/lib
cd /tmp/e2e-licence
cat > DEBIAN/control <<'END'
Package: e2e-licence
Version: 1
Architecture: all
Maintainer: t <t@example.com>
Depends: debconf
Description: a stand-in that asks about a licence
END
cat > DEBIAN/templates <<'END'
Template: e2e-licence/accept
Type: boolean
Default: false
Description: Do you accept it?
 It is a stand-in.
END
printf '#!/bin/sh
set -e
. /usr/share/debconf/confmodule
' | tee DEBIAN/config > DEBIAN/postinst
printf 'db_input high e2e-licence/accept || true
db_go
' >> DEBIAN/config
printf 'db_get e2e-licence/accept
[ "$RET" = true ]
update-alternatives --install /usr/bin/e2e-said e2e-said /usr/bin/e2e-licence 1 \\
    --slave /usr/share/man/man1/e2e-said.1.gz e2e-said.1.gz /usr/lib/e2e-licence.1.gz
' >> DEBIAN/postinst
echo a manual | gzip > usr/lib/e2e-licence.1.gz
printf '#!/bin/sh
' > usr/bin/e2e-licence
chmod 755 DEBIAN/config DEBIAN/postinst usr/bin/e2e-licence
cd /srv/e2e-packages
dpkg-deb --build /tmp/e2e-licence e2e-licence.deb >/dev/null
{
    dpkg-deb --field e2e-licence.deb
    echo "Filename: ./e2e-licence.deb"
    echo "Size: $(stat -c %s e2e-licence.deb)"
    echo "SHA256: $(sha256sum e2e-licence.deb | cut -d' ' -f1)"
} > Packages
echo 'deb [trusted=yes] file:/srv/e2e-packages ./' > /etc/apt/sources.list.d/e2e.list
apt-get -qq update
echo 'e2e-licence e2e-licence/accept boolean true' | debconf-set-selections
"""


@pytest.fixture(scope="module", autouse=True)
def dags(shell: Shell) -> None:
    """The DAGs of these tests."""
    bring_dag("e2e_image", shell)


@pytest.fixture(scope="module")
def registry(machine: Machine) -> Iterator[RegistryServer]:
    """A registry that wants a login, with a certificate of its own authority."""
    server = RegistryServer(machine).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hub(registry: RegistryServer, shell: Shell) -> RegistryServer:
    """The same registry in the place of Docker Hub, as this machine finds it."""
    names = f"{HUB_ADDRESS} docker.io {DOCKER_HUB}"
    shell(
        f"echo {names} >> /etc/hosts; iptables -t nat -I OUTPUT -d {HUB_ADDRESS} -p tcp --dport 443"
        f" -j DNAT --to-destination {registry.address}"
    )
    return registry


def settings_for(registry: RegistryServer, host: str = "") -> dict[str, Any]:
    """Its settings in the inventory."""
    given = example(
        "registry",
        {"registry.example.com/team/airflow-worker": f"{host or registry.address}/{REPOSITORY}"},
        files={"our-ca.pem": registry.ca_certificate},
        environ={"REGISTRY_PASSWORD": registry.password},
    )
    assert given["worker_registry"]["username"] == registry.user
    return dict(given["worker_registry"])


def without_wheels(machine: Machine) -> dict[str, Any]:
    """MySQL and LDAP, which have no wheels, as inventories/README.md says; StatsD, and LICENCE."""
    ldap = {"bookworm": "libldap-2.5-0", "trixie": "libldap2"}[machine.release]
    return {
        "airflow_extra_requirements": [
            *("apache-airflow-providers-mysql", "python-ldap", "statsd==4.0.1")
        ],
        "build_apt_packages": [
            *("build-essential", "pkg-config", "python3-dev"),
            *("default-libmysqlclient-dev", "libldap-dev", "libsasl2-dev"),
        ],
        "worker_extra_apt_packages": ["libmariadb3", ldap, "e2e-licence"],
    }


def built(shell: Shell) -> set[str]:
    """The built images that the node has, by their tags if they have one."""
    names = shell(f"ctr -n k8s.io images ls -q | grep -E '/airflow-worker:|/{REPOSITORY}[:@]'")
    tags = {name for name in names.split() if "@" not in name}
    bare = {name.partition("@")[0] for name in names.split() if "@" in name}
    return tags | {name for name in bare if not any(tag.startswith(f"{name}:") for tag in tags)}


def current(shell: Shell) -> str:
    """The image that the next task gets, without its digest."""
    return shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml").partition("@")[
        0
    ]


def running_pods(cluster: client.CoreV1Api, dag: str) -> set[str]:
    """Names of the DAG's pods that run now."""
    which = {"label_selector": f"dag_id={dag}", "field_selector": "status.phase=Running"}
    return {pod.metadata.name for pod in cluster.list_namespaced_pod("airflow", **which).items}


def said_by_the_image(airflow: Airflow) -> str:
    """The properties of the image that a task runs in."""
    run = airflow.trigger("e2e_image")
    wait_for(lambda: airflow.run_state("e2e_image", run) == "success", 90, "the task succeeds")
    return airflow.log("e2e_image", run, "look")


def test_a_registry_that_says_no_stops_the_deploy_before_airflow_is_switched(
    registry: RegistryServer, shell: Shell
) -> None:
    before = current(shell)
    wrong = settings_for(replace(registry, password="not-the-password"))
    run = deploy(settings={"worker_registry": wrong})
    assert run.code != 0
    assert f"{registry.address} does not let the user {registry.user} in" in run.output
    assert "not-the-password" not in run.output
    unknown = {**settings_for(registry), "ca_certificate": None}
    shell("rm -r /etc/containers/certs.d")
    run = deploy(settings={"worker_registry": unknown})
    assert run.code != 0
    assert f"the host trusts no CA of the certificate of {registry.address}" in run.output
    assert registry.tags(REPOSITORY) == []
    assert current(shell) == before


def test_another_image_reaches_new_tasks_and_leaves_running_ones_alone(
    airflow: Airflow,
    cluster: client.CoreV1Api,
    shell: Shell,
    hub: RegistryServer,
    machine: Machine,
) -> None:
    old = current(shell)
    assert "jq: False, statsd: False, mysql: False, ldap: False" in said_by_the_image(airflow)
    patient = airflow.trigger("e2e_patient")
    wait_for(lambda: airflow.tasks("e2e_patient", patient)[0]["state"] == "running", 60, "it runs")
    (pod,) = running_pods(cluster, "e2e_patient")
    # A venv older than the previous one, which is kept.
    shell("cd /opt/airflow/venvs && mkdir -p 3.0.0-old && touch -d 2020-01-01 3.0.0-old")

    shell(LICENCE)
    most, more = example("ssh", {"airflow.example.com": machine.address}), without_wheels(machine)
    packages = ("airflow_extra_requirements", "worker_extra_apt_packages")
    settings = {
        **most,
        **more,
        **{name: [*most[name], *more[name]] for name in packages},
        "airflow_config": {**most["airflow_config"], "metrics": {"statsd_on": "True"}},
        "dags_env": {"AIRFLOW__METRICS__STATSD_HOST": machine.address},
        "retention_worker_images": 1,
        "worker_registry": settings_for(hub, "docker.io"),
    }
    run = deploy("-vvv", "--diff", settings=settings)
    assert run.code == 0, run.output
    login = b64encode(f"{hub.user}:{hub.password}".encode()).decode()
    for secret in (hub.password, login, b64encode(login.encode()).decode()):
        assert secret not in run.output
    new = current(shell)
    assert PUSH in run.changed and TRY in run.changed
    assert new.startswith(f"docker.io/{REPOSITORY}:")
    tag = new.rpartition(":")[2]
    assert hub.tags(REPOSITORY) == [tag]
    assert re.search(
        "^statsd==4.0.1 .*\n +--hash=", shell(f"cat {layout.EXTRA_LOCK}"), re.MULTILINE
    )
    assert re.search(
        "^# built with: setuptools==.* --hash=", shell(f"cat {layout.EXTRA_LOCK}"), re.MULTILINE
    )
    # There is a list of packages for each image that is kept.
    assert shell("cd /opt/airflow/image && ls -d */") == f"{tag}/"
    shell(f"systemd-run --quiet --unit=e2e-statsd socat -u UDP4-RECV:8125 OPEN:{STATSD},creat")
    # Somebody who may push to the registry gives the tag to another image.
    make_image(shell, "localhost/e2e-own:moved", keep_archive=True)
    login_file = "--authfile=/etc/airflow/secrets/registry-login.json"
    shell(f"skopeo copy --quiet {login_file} docker-archive:/tmp/e2e-own.tar docker://{new}")
    shell(f"crictl rmi {new} localhost/e2e-own:moved; rm /tmp/e2e-own.tar")
    # The programs that built them stay on the host.
    expected = "e2e-licence: True, gcc: False, jq: True, statsd: True, mysql: True, ldap: True"
    assert expected in said_by_the_image(airflow)
    metrics = ("scheduler_heartbeat:", "dag_processing.", "triggers.", "ti.start.e2e_image.look:")

    def told() -> bool:
        said = shell(f"cat {STATSD}")
        return all(f"airflow.{metric}" in said for metric in metrics)

    wait_for(told, 60, "scheduler, dag-processor, triggerer, and pod tell StatsD")
    shell(f"systemctl stop e2e-statsd; rm {STATSD}")

    # The new one came by its digest alone.
    assert built(shell) == {old, new.rpartition(":")[0]}, "the old image is in use"
    venvs = shell("ls /opt/airflow/venvs").split()
    assert len(venvs) == 2 and "3.0.0-old" not in venvs
    assert deploy(settings=settings).changed == []
    assert running_pods(cluster, "e2e_patient") == {pod}
    shell(f"touch {DAGS}/e2e_go_on")
    wait_for(lambda: airflow.run_state("e2e_patient", patient) == "success", 60, "it ends")
    (task,) = airflow.tasks("e2e_patient", patient)
    assert (task["state"], task["try_number"]) == ("success", 1)


def test_going_back_builds_nothing_and_unused_images_go(shell: Shell) -> None:
    newer = current(shell)
    run = deploy(settings={"retention_worker_images": 1})
    assert run.code == 0, run.output
    assert not [name for name in run.changed if "Build the worker image" in name]
    assert PRUNE in run.changed
    assert current(shell) != newer
    assert built(shell) == {current(shell)}
    # Also without a deploy.
    old = "localhost/airflow-worker:e2e-old"
    make_image(shell, old)
    assert built(shell) == {current(shell), old}
    shell("systemctl start airflow-cleanup-images")
    assert built(shell) == {current(shell)}
    assert "registry" not in shell(
        "ls /etc/airflow/secrets; kubectl -n airflow get secrets -o name"
    )


# How to make an image that is not for this Airflow, and the message that it must cause.
MAKE_IMAGE = """set -e
buildah rm e2e-own >/dev/null 2>&1 || true
buildah from --name e2e-own scratch >/dev/null
root=$(buildah mount e2e-own)
mkdir -p $root/usr/bin $root/usr/lib/python3/dist-packages $root/usr/lib64 $root/tmp
for name in bin lib lib64; do ln -s usr/$name $root/$name; done
FILL
buildah config --env PATH=/usr/bin:/bin e2e-own
buildah commit --quiet --rm e2e-own docker-archive:/tmp/e2e-own.tar:IMAGE >/dev/null
ctr -n k8s.io images import /tmp/e2e-own.tar >/dev/null"""
DEBIANS_PYTHON = """
cp -L --parents /usr/bin/python3 $(ldd /usr/bin/python3 | grep -o '/[^ ]*') $root
cp -a --parents $(python3 -c 'import os; print(os.path.dirname(os.__file__))') $root
ln -s python3 $root/usr/bin/python
cd $root/usr/lib/python3/dist-packages"""
OTHER_AIRFLOW = f"""{DEBIANS_PYTHON}
mkdir -p airflow/sdk/execution_time apache_airflow_core-3.0.0.dist-info
touch airflow/sdk/execution_time/execute_workload.py
cd apache_airflow_core-3.0.0.dist-info
printf 'Name: apache-airflow-core\nVersion: 3.0.0\n' > METADATA"""
UNFIT: dict[str, tuple[str, str]] = {
    "empty": ("", "there is no python in it"),
    "no-airflow": (DEBIANS_PYTHON, "No module named 'airflow'"),
    "another-version": (
        OTHER_AIRFLOW,
        "it has Airflow and Python 3.0.0 {python}, the host has 3.3.2 {python}",
    ),
}
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}  # https://packages.debian.org/python3


def make_image(shell: Shell, name: str, fill: str = "", keep_archive: bool = False) -> None:
    """The node has an image of this name, with nothing in it but what shell commands put there."""
    shell(MAKE_IMAGE.replace("FILL", fill).replace("IMAGE", name))
    if not keep_archive:
        shell("rm /tmp/e2e-own.tar")


@pytest.mark.parametrize("kind", UNFIT)
def test_an_image_that_does_not_fit_is_refused_before_the_switch(
    kind: str, machine: Machine, shell: Shell
) -> None:
    before, image = current(shell), f"localhost/e2e-own:{kind}"
    fill, said = UNFIT[kind]
    make_image(shell, image, fill)
    run = deploy(settings={"worker_image": image})
    assert run.code != 0
    assert image in run.output
    assert said.format(python=PYTHONS[machine.release]) in run.output
    assert current(shell) == before


def test_somebodys_own_image_that_fits_runs_tasks_and_addons_are_enabled(
    airflow: Airflow, shell: Shell
) -> None:
    image = "localhost/e2e-own:fits"
    shell(f"ctr -n k8s.io images tag {current(shell)} {image}")
    # The preflight asks a registry, which this image is in none of.
    own = example("own_image", {"registry.example.com/team/airflow:3.3.2-7": image})
    shell("HOME=/root minikube addons disable storage-provisioner")
    addons = {"minikube_addons": ["default-storageclass", "storage-provisioner", "dashboard"]}
    run = deploy(settings={**own, **addons})
    assert run.code == 0, run.output
    assert TRY in run.changed
    assert "minikube | Enable minikube's addons (about 10 s)" in run.changed
    # The deploy's sentence about the dashboard is true; its image is only in the internet.
    said = re.search(
        r"kubectl -n (\S+) port-forward (service/\S+) (\d+):(\d+)\s+and ssh -L (\S+)", run.output
    )
    assert said, run.output
    namespace, service, local, port, forwarded = said.groups()
    assert forwarded == f"{local}:127.0.0.1:{local}"
    ports = f"kubectl -n {namespace} get {service} -o jsonpath='{{.spec.ports[*].port}}'"
    assert shell(ports).split() == [port]
    assert current(shell) == image
    assert deploy(settings={**own, **addons}).changed == []
    assert "jq: False" in said_by_the_image(airflow)


def test_back_to_an_image_of_the_deploy(airflow: Airflow, shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert current(shell).startswith("localhost/airflow-worker:")
    assert "jq: False" in said_by_the_image(airflow)
    assert deploy().changed == []
