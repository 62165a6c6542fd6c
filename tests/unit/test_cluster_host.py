"""A cluster on a host of its own: the settings, the plans, the ways to it, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api import DeployError
from pyinfra.context import ctx_host, ctx_state

from tasks import layout
from tasks.cluster import certificates
from tasks.host import host_values, serving
from tasks.lib import groups, lock
from tasks.preflight import serving as preflight
from tasks.preflight.questions import Report
from tasks.settings import HostSettings, Settings
from tests.unit import fake, formats, reports
from tests.unit.fake import CLUSTER_HOST, DATABASE_HOST

AIRFLOW = ("@fake/air-1", "@fake/air-2")
ALONE = {"airflow": AIRFLOW[:1], "cluster": (CLUSTER_HOST,)}
SHARED = {"airflow": AIRFLOW, "database": (DATABASE_HOST,), "cluster": (DATABASE_HOST,)}
ADMIN = "admin-key"  # of the cluster's administrator, in fake.MADE_KUBECONFIG


# The settings


@pytest.mark.parametrize(
    ("own", "there", "said"),
    [
        ({"kubernetes_provider": "existing"}, {}, "kubernetes_provider: the deploy makes the cl"),
        ({"kubernetes_kubeconfig": "/root/mine"}, {}, "kubernetes_kubeconfig: the deploy makes"),
        ({"kubernetes_context": "mine"}, {}, "kubernetes_context: the deploy makes the cluster"),
        ({"minikube_addons": ["dashboard"]}, {}, "minikube_addons is a setting of @fake/node-1"),
        ({"kubernetes_version": "1.34.10"}, {}, "kubernetes_version is a setting of @fake/node-1"),
        ({}, {"kubernetes_provider": "existing"}, "kubernetes_provider: the deploy makes the clu"),
        ({}, {"minikube_driver": "podman"}, 'could not reach the group cluster: write "none"'),
        ({"dags_source": "host"}, {}, 'dags_source: "host" needs a node that sees'),
        ({"worker_registry": None}, {}, "worker_image: the group cluster needs it; write an"),
    ],
)
def test_settings_that_can_not_work_are_refused(
    own: dict[str, Any], there: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeployError) as error:
        fake.beside_cluster(own, there)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_airflows_host_needs_no_setting_for_the_way_to_its_cluster() -> None:
    there = {"kubernetes_version": "1.34.10", "kubernetes_kubectl_sha256": "a" * 64}
    settings = fake.beside_cluster({}, {**there, "minikube_addons": ["metrics-server"]})
    assert not settings.kubernetes.uses_minikube and not settings.node_sees_folders
    assert settings.kubectl.endswith(f"--kubeconfig={layout.CLUSTER_KUBECONFIG}")
    assert settings.kubernetes.version == "1.34.10"
    assert settings.minikube == fake.DEFAULTS.minikube
    assert settings.execution_api_url == "https://airflow-api.airflow-control.svc:8081/execution/"
    # The same data for all hosts is no contradiction.
    assert fake.beside_cluster(there, there).kubernetes == settings.kubernetes


def test_settings_of_airflow_mean_nothing_on_its_host() -> None:
    settings = fake.with_cluster(
        {**fake.BESIDE_CLUSTER, "web_port": "wrong", **fake.pinned(minikube_version="1.37.0")}
    )
    assert settings.web.port == 8080 and settings.minikube.sha256 == "0" * 64
    assert settings.serves == ("cluster",) and settings.node_is_host


def test_the_proxy_is_not_asked_for_the_api_of_the_cluster() -> None:
    settings = fake.beside_cluster(fake.VARIANTS["proxy"])
    exceptions = settings.proxy_environment()["no_proxy"].split(",")
    assert "192.0.2.8" in exceptions and settings.minikube.pod_network not in exceptions


# The plan of the cluster's host


@pytest.mark.parametrize("both", [False, True], ids=["alone", "with the database"])
def test_it_has_the_cluster_and_nothing_of_airflow(both: bool) -> None:
    settings = fake.with_both() if both else fake.with_cluster()
    plan = fake.plan(settings)
    (command,) = plan.operations[0].commands
    packages = command.splitlines()[1]  # the arguments, below the first line
    assert "containerd" in packages and ("postgresql-15" in packages) is both
    assert "nginx" not in packages and "buildah" not in packages
    said = " ".join(command for each in plan.operations for command in each.commands)
    assert "useradd" not in said
    assert layout.CONFIG not in plan.uploads and layout.CLI not in plan.uploads
    assert formats.host_values(plan)["SERVES"] == " ".join(settings.serves)
    # Each program that it calls is there, with those that it sources.
    units = " ".join(text for path, text in plan.uploads.items() if path.endswith(".service"))
    called = set(re.findall(rf"{layout.LIB}/([\w.-]+)", said + units))
    programs = serving.programs(settings)
    assert called <= programs
    for name in programs:
        text = plan.uploads[f"{layout.LIB}/{name}"]
        used = set(re.findall(r"(?:\$here|\$\{0%/\*\}|\)\")/([\w.-]+\.(?:sh|py|yaml))", text))
        used |= {
            f"{each}.py" for each in re.findall(r"(?m)^(?:from|import) (commands|lib)\b", text)
        }
        used.discard("offline-images.py")  # of a node that is a container
        assert used <= programs, name


def test_the_cluster_starts_before_the_database_and_is_waited_for_after_it() -> None:
    order = [
        "Install the Debian packages",
        "Start minikube in the background",
        "Start and enable PostgreSQL",
        "Record that Airflow's hosts have their database here",
        "Wait for minikube",
        "Renew Kubernetes' certificates",
        "Start the timer that renews",
        "Wait for the hosts of the groups",
    ]
    plan = fake.plan(fake.with_both())
    places = [plan.position(name) for name in order]
    assert places == sorted(places)


def test_the_node_trusts_the_registry_of_airflows_hosts() -> None:
    plan = fake.plan(fake.with_cluster())
    registry = fake.VARIANTS["registry"]["worker_registry"]
    place = "/etc/containerd/certs.d/registry.example:5000/hosts.toml"
    assert 'server = "https://registry.example:5000"' in plan.uploads[place]
    assert registry["ca_certificate"] in plan.uploads.values()
    assert plan.position("Write containerd's configuration") < plan.position("containerd trust")
    # Its login is the pods' alone, in a Secret.
    said = [*plan.uploads.values(), *(text for each in plan.operations for text in each.inputs)]
    assert not [text for text in said if registry["password"] in text]


def test_a_timer_that_needs_no_airflow_renews_the_certificates() -> None:
    plan = fake.plan(fake.with_cluster())
    service, timer = (formats.Unit.of(plan, name) for name in certificates.UNITS)
    assert timer.one("Install.WantedBy") == "timers.target"
    assert timer.one("Timer.OnCalendar") == "05:00" and timer.one("Timer.Persistent") == "yes"
    called = [f"{layout.LIB}/certificates.py", "apply", "kubernetes"]
    assert service.commands("Service.ExecStart") == [called]
    assert not {"airflow.target"} & {*timer.all("Unit.PartOf"), *service.all("Unit.PartOf")}
    assert formats.host_values(plan)["CLUSTER_CERTIFICATES"]
    # A host that is alone has the timer of Airflow instead.
    assert not [path for path in fake.plan(fake.settings()).uploads if "cluster-cert" in path]


# The plan of Airflow's hosts


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_airflow_uses_it_as_an_existing_one(several: bool) -> None:
    settings = fake.several_beside_both(0) if several else fake.beside_cluster()
    plan = fake.plan(settings)
    assert [name for name in plan.names if name.startswith("minikube")] == [
        "minikube | Install kubectl",
        "minikube | Copy the kubeconfig of the cluster",
        "minikube | Look for a node that can run the worker image",
    ]
    assert plan.position("System | Create /etc/airflow") < plan.position("Copy the kubeconfig")
    assert plan.names[0] == "Serving host | Wait for the hosts of the groups database and cluster"
    values = formats.host_values(plan)
    assert values["KUBECTL"].endswith(layout.CLUSTER_KUBECONFIG) and not values["NODE_IS_HOST"]
    assert "SERVES" not in values
    objects = json.loads(plan.uploads[layout.KUBERNETES_OBJECTS])["items"]
    (slices,) = (each for each in objects if each["kind"] == "EndpointSlice")
    found = [address for each in slices["endpoints"] for address in each["addresses"]]
    assert found == [f"192.0.2.{number}" for number in ((1, 2, 3) if several else (1,))]
    certificate = plan.named("Create the host's certificate").commands[0].split()
    assert "airflow-api.airflow-control.svc" in certificate


def test_the_kubeconfig_is_copied_and_shown_nowhere() -> None:
    plan = fake.plan(fake.beside_cluster())
    copied = plan.named("Copy the kubeconfig of the cluster")
    assert copied.inputs == [fake.MADE_KUBECONFIG[1] + "\n"]
    assert f"{layout.CLUSTER_KUBECONFIG} root:root 600\n" in copied.commands[1]
    said = [*plan.names, *plan.facts, *plan.uploads.values()]
    said += [command for each in plan.operations for command in each.commands]
    assert not [text for text in said if ADMIN in text]
    assert layout.CLUSTER_KUBECONFIG in layout.NOT_BACKED_UP


def test_network_policies_name_the_host_that_is_alone() -> None:
    plan = fake.plan(fake.beside_cluster({"kubernetes_network_policy": True}))
    objects = json.loads(plan.uploads[layout.KUBERNETES_OBJECTS])["items"]
    (policy,) = (each for each in objects if each["kind"] == "NetworkPolicy")
    assert "192.0.2.1/32" in yaml.safe_dump(policy)


# Preflight


@pytest.fixture(autouse=True)
def _no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "take", lambda: "the test's")


RESOURCES = ("memory_kib 8000000", "disk_kib /opt 99000000", "disk_kib /var 99000000")


def of_node(*more: str, without: str = "") -> dict[str, Any]:
    """How the cluster's host answers."""
    found = reports.of_serving(8, *RESOURCES, *more, without=without)
    found["name=$(own_name"] = [*found["name=$(own_name"], "node 192.0.2.8"]
    return found


def checked(
    there: Mapping[str, Any] | None = None,
    away: tuple[str, ...] = (),
    named: Mapping[str, tuple[str, ...]] = ALONE,
    data: Mapping[str, Any] | None = None,
) -> HostSettings:
    """The settings of the cluster's host after preflight."""
    (name,) = named["cluster"]
    responses = {each: reports.of_serving(number) for number, each in enumerate(AIRFLOW, start=1)}
    given = dict.fromkeys(AIRFLOW, fake.BESIDE_CLUSTER) | {name: data or {}}
    state = fake.hosts(named, {**responses, name: there or of_node()}, given)
    for each in away:
        state.inventory.get_host(each).connected = False
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(name)):
        return preflight.check(groups.settings())


def test_it_is_a_node_and_has_no_database() -> None:
    settings = checked()
    assert settings.serves == ("cluster",) and settings.database_clients == ()
    assert settings.worker.registry and settings.worker.registry.host == "registry.example:5000"
    assert {"host-8", "192.0.2.8"} <= {*settings.own_names}
    both = checked(named=SHARED)
    assert both.serves == ("database", "cluster")
    assert both.database_clients == ("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(
    ("answer", "without", "said"),
    [
        (("installed yes",), "", "the group cluster is for one without: remove that Airflow first"),
        (("port 8443 77 k3s-server",), "", "port 8443 is held by k3s-server (process 77)"),
        (("engine docker.io",), "", "another container engine is here, docker.io"),
        (("kubernetes 1.36.3",), "", "kubernetes_version: the cluster has Kubernetes 1.36.3"),
        (("minikube_driver podman",), "", "the cluster was made with the driver podman"),
        (("unreachable dl.k8s.io",), "", "dl.k8s.io does not answer on port 443"),
        (("unreachable dl.k8s.io", "kubernetes 1.35.8"), "", ""),
        (
            ("firewall rules input/tcp/8443",),
            "",
            "lets no pod reach the cluster's API at port 8443",
        ),
        (("room /usr 300000 0 0",), "", ""),  # it has only the cluster
        (("memory_kib 2000000",), "memory", "1.9 GiB of memory: at least 3.5 are needed"),
        (("hostname BAD_NAME",), "", "the host's name BAD_NAME can't be a Kubernetes node's"),
        (("selinux enforcing",), "", "SELinux is enforcing"),
        (("no_memory_group yes",), "", "take cgroup_disable=memory out of the kernel's command"),
        (("masked nginx.service", "masked kubelet.service"), "", "start them: kubelet.service:"),
        (("uses address 10.244.0.5 eth0",), "", "the address 10.244.0.5 (eth0)"),
        (("foreign_path /usr/local/bin/kubectl",), "", "did not make /usr/local/bin/kubectl"),
    ],
)
def test_what_stands_in_the_way_of_the_node_is_said(
    answer: tuple[str, ...], without: str, said: str
) -> None:
    kept = [line for line in RESOURCES if not without or not line.startswith(without)]
    there = reports.of_serving(8, *kept, *answer)
    if not said:
        assert checked(there).serves == ("cluster",)
        return
    with pytest.raises(DeployError) as error:
        checked(there)
    assert said in str(error.value) and str(error.value).count("\n") == 1


def test_nobody_asks_about_ports_of_airflow_there() -> None:
    text = preflight.variables(Settings.of_server(CLUSTER_HOST, fake.servers(cluster={})))
    values = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    assert "8443:kube-apiserver" in values["cluster_ports"]
    assert values["firewall_ports"] == "8443" and "own_ports" not in values
    only = preflight.variables(Settings.of_server(DATABASE_HOST, fake.servers(database={})))
    assert "cluster_ports" not in only and "minikube_profile" not in only


def test_hosts_that_are_not_in_the_run_are_named() -> None:
    with pytest.raises(DeployError, match="@fake/air-1 is not in this run"):
        checked(away=AIRFLOW[:1])


@pytest.mark.parametrize("option", ["--serial", "--no-wait"])
def test_hosts_wait_for_the_cluster(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyinfra", option])
    with pytest.raises(DeployError, match=f"{option} can't be used with the group cluster"):
        checked()


def found(
    there: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    away: bool = False,
    data: Mapping[str, Any] | None = None,
) -> list[str]:
    """The findings about the one host of Airflow, and its cluster."""
    responses = {CLUSTER_HOST: there, AIRFLOW[0]: {**reports.of_serving(1), **(own or {})}}
    state = fake.hosts(ALONE, responses, {AIRFLOW[0]: {**fake.BESIDE_CLUSTER, **(data or {})}})
    state.inventory.get_host(CLUSTER_HOST).connected = not away
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(AIRFLOW[0])):
        settings = preflight.reached(groups.settings())
        return list(preflight.findings(settings, Report({"system": ["debian bookworm"]})))


API = "server=192.0.2.8\nport=8443"
AIRFLOWS = "server=192.0.2.1\nport=8081"


def test_both_ways_are_asked_before_the_first_change() -> None:
    assert found(of_node()) == []
    (said,) = found(of_node(), {API: ["to 192.0.2.8", "silent 192.0.2.8"]})
    assert "@fake/air-1 gets no answer from @fake/node-1 at 192.0.2.8 port 8443" in said
    (said,) = found({**of_node(), AIRFLOWS: ["to 192.0.2.1", "silent 192.0.2.1"]})
    assert "@fake/node-1 gets no answer from @fake/air-1 at 192.0.2.1 port 8081" in said
    balancer = {"server=balancer.example\nport=8081": ["silent 198.51.100.1"]}
    (said,) = found({**of_node(), **balancer}, data={"execution_api_host": "balancer.example"})
    assert "at 198.51.100.1 port 8081" in said


def test_an_image_that_the_node_can_not_run_is_said() -> None:
    there = of_node()
    there["name=$(own_name"] = [line.replace("amd64", "arm64") for line in there["name=$(own_name"]]
    (said,) = found(there)
    assert "is arm64, and this host builds the worker image for its own architecture" in said
    image = {"worker_image": "registry.example/worker:1", "worker_registry": None}
    assert found(there, data=image) == []


def test_a_cluster_that_is_not_in_the_run_is_named() -> None:
    (said,) = found(of_node(), away=True)
    assert "@fake/node-1 is not in this run: the hosts of the groups airflow, cluster are" in said


@pytest.mark.parametrize("verdict", ["drop", "reject with icmp type admin-prohibited", "accept"])
def test_a_firewall_that_swallows_packets_is_noticed(verdict: str) -> None:
    """In a network of its own, with the real rules."""
    rule = f"add rule inet t c tcp dport 8443 {verdict}"
    chain = "add chain inet t c { type filter hook input priority 0 ; }"
    rules = "\n".join(("add table inet t", chain, rule))
    question = preflight.RouteReport().command(server="127.0.0.1", port=8443)
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            'ip link set lo up; echo "$1" | nft -f -; eval "$2"',
            "sh",
            rules,
            question,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("silent 127.0.0.1" in done.stdout) is (verdict != "accept"), done.stderr


# The removal

CLUSTER = {"cluster": CLUSTER_HOST}
BOTH = {"database": DATABASE_HOST, "cluster": DATABASE_HOST}


def test_the_cluster_goes_with_all_that_is_in_it() -> None:
    for keep in (True, False):
        plan = fake.removal_beside(CLUSTER, keep, 1)
        names = [each.rpartition(" | ")[2] for each in plan.names]
        assert names[:2] == [
            "Stop and remove Airflow's units",
            "Wait until no host of this run has Airflow's services",
        ]
        assert (
            "Delete the cluster (about 20 s)" in names
            and "Remove Kubernetes' files from the host" in names
        )
        assert ("Remove the deploy's state" in names) is not keep
        assert not [name for name in names if "database" in name]
        # Airflow's host need not empty a cluster that goes.
        of_airflow = fake.removal_beside(CLUSTER, keep, 0).names
        assert not [name for name in of_airflow if "objects in the cluster" in name]


def test_the_database_on_the_same_host_stays_with_the_data() -> None:
    kept, gone = (fake.removal_beside(BOTH, keep, 1) for keep in (True, False))
    for plan in (kept, gone):
        assert plan.named("Delete the cluster") and plan.named("Stop and remove Airflow's units")
    assert not [name for name in kept.names if "database" in name]
    assert gone.position("Delete the cluster") < gone.position("Remove the database")


@pytest.mark.parametrize("these", [CLUSTER, BOTH], ids=["cluster", "both"])
@pytest.mark.parametrize("keep_data", [False, True])
def test_the_cluster_is_not_taken_from_a_host_that_is_not_in_the_run(
    these: dict[str, str], keep_data: bool
) -> None:
    with pytest.raises(DeployError, match="the cluster of @fake, and the removal would take it"):
        fake.removal_beside(these, keep_data, 1, in_run=(1,))


@pytest.mark.parametrize(
    ("settings", "is_kept"),
    [(fake.with_cluster(), False), (fake.with_both(), True), (fake.with_database(), True)],
    ids=["cluster", "both", "database"],
)
def test_a_host_that_had_only_the_cluster_can_be_removed_alone(
    settings: HostSettings, is_kept: bool, tmp_path: Path
) -> None:
    """By the question that the removal asks of a host without groups."""
    (tmp_path / "host.env").write_text(host_values.render(settings))
    (question,) = {each for each in fake.removal({}, False).facts if "SEVERAL_HOSTS" in each}
    asked = question.replace(layout.HOST_ENV, str(tmp_path / "host.env"))
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    assert bool(done.stdout) is is_kept


def test_airflow_alone_leaves_the_cluster_empty() -> None:
    plan = fake.removal_beside(CLUSTER, False, 0, in_run=(0,))
    (command,) = plan.named("Delete Airflow's objects in the cluster").commands
    assert f"--kubeconfig={layout.CLUSTER_KUBECONFIG}" in command
    assert plan.position("objects in the cluster") < plan.position("Remove Airflow's files")
