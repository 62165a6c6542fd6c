"""The programs that start minikube's cluster, place its files and enable its addons."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support import wait_for
from tests.unit import fake, programs
from tests.unit.stand_ins import Host

VERSION = "1.33.1"
SERVES = f"""case "$*" in */readyz*) ;; *) echo 'Server Version: v{VERSION}' ;; esac"""
DOWN = f"no Kubernetes v{VERSION} answers, or its node is not ready"
# Each line of the file is an answer of systemd about the unit now.
SYSTEMCTL = """
case "$*" in
is-enabled*) test -e {folder}/enabled ;;
enable*) touch {folder}/enabled ;;
"is-active --quiet kubelet") test ! -e {folder}/no_kubelet ;;
is-active*) grep -qx active {folder}/found ;;
show*) cat {folder}/found ;;
"start --no-block"*) echo activating > {folder}/found ;;
start*|reload-or-restart*) echo active > {folder}/found; {effect} ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with minikube's unit, which is not started."""
    host = Host(tmp_path)
    host.values["MINIKUBE_UNIT"] = str(tmp_path / "MINIKUBE_UNIT")
    host.values["KUBERNETES_VERSION"] = VERSION
    host.values["KUBEADM_CONFIG"] = str(tmp_path / "KUBEADM_CONFIG")
    Path(host.values["KUBEADM_CONFIG"]).write_text("of earlier\n")
    Path(host.values["MINIKUBE_UNIT"]).write_text("[Unit]\n")
    (tmp_path / "found").write_text("inactive\n")
    give_systemctl(host)
    host.program("kubectl", SERVES)
    # The words of all programs of the unit: which one says them is no matter.
    host.program(
        "journalctl", 'case " $* " in *" -t "*) ;; *" -u minikube "*) echo "no space left"; esac'
    )
    host.program("ss", "echo LISTEN 0 4096 127.0.0.1:10249 *:*")
    host.program("sleep")
    return host


def give_systemctl(host: Host, effect: str = "true") -> None:
    """Let systemctl have an effect when it starts or reloads the unit."""
    host.program("systemctl", SYSTEMCTL.format(folder=host.folder, effect=effect))


def called(host: Host) -> list[str]:
    """The calls of systemctl that change something."""
    words = (" ".join(each) for each in host.called("systemctl"))
    return [each for each in words if not each.startswith(("is-", "show"))]


@pytest.mark.parametrize(
    "arguments",
    [
        ("cluster.sh",),
        ("cluster.sh", "check", "stop"),
        ("cluster.sh", "make", "run"),
        ("minikube.sh", "start", "1.35.8"),
        ("minikube.sh", "stop", "1.35.8", "--force"),
        ("watch-node.sh", "minikube"),
        ("offline-files.sh", "check", "/srv"),
        ("offline-files.sh", "make", "/srv", VERSION),
        ("offline-node.sh", "check", "podman", "/srv/node.tar"),
    ],
)
def test_a_wrong_call_shows_the_usage(arguments: tuple[str, ...], host: Host) -> None:
    done = host.run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {arguments[0]}")


# cluster.sh


def test_minikube_begins_to_start_once(host: Host) -> None:
    call = ("cluster.sh", "begin")
    assert host.check(*call) == "minikube does not start at boot"
    assert host.apply(*call) == host.check(*call) == ""
    assert called(host)[-1] == "start --no-block minikube"
    assert (host.state / "minikube.begun").exists()
    assert Path(host.values["KUBEADM_CONFIG"]).exists()
    (host.folder / "found").write_text("failed\n")
    assert host.check(*call) == "minikube is not started"


def test_a_start_that_ends_well_is_noted(host: Host) -> None:
    call = ("cluster.sh", "run")
    assert host.apply("cluster.sh", "begin") == ""
    assert host.check(*call) == "minikube does not run"
    assert host.apply(*call) == host.check(*call) == ""
    # It was started with the unit as it is: there is nothing to reload.
    assert not [each for each in called(host) if "reload-or-restart" in each]
    assert not (host.state / "minikube.begun").exists()
    assert (host.state / "minikube").read_text().split()[1] == host.values["MINIKUBE_UNIT"]


def running(host: Host) -> tuple[str, str]:
    """Bring the cluster up; returns how to ask for that."""
    assert host.apply("cluster.sh", "begin") == ""
    assert host.apply("cluster.sh", "run") == ""
    host.calls.write_text("")
    return ("cluster.sh", "run")


def test_a_changed_unit_is_reloaded_and_not_restarted(host: Host) -> None:
    call = running(host)
    unit = Path(host.values["MINIKUBE_UNIT"])
    unit.write_text("[Unit]\nDescription=new\n")
    assert host.check(*call) == f"minikube was started with another unit than {unit}"
    assert host.apply(*call) == host.check(*call) == ""
    assert called(host) == [
        *("daemon-reload", "start minikube", "reload-or-restart minikube"),
    ]
    # minikube was not interrupted: its record is true.
    assert Path(host.values["KUBEADM_CONFIG"]).exists()


@pytest.mark.parametrize(
    ("listens", "restarts"), [("*:10249", 1), ("0.0.0.0:10249", 1), ("127.0.0.1:10249", 0)]
)
def test_a_kube_proxy_that_is_open_starts_again(listens: str, restarts: int, host: Host) -> None:
    call = running(host)
    # At the first look it is just starting.
    late = f"test -e {host.folder}/looked || exec touch {host.folder}/looked"
    host.program("ss", f"{late}; echo LISTEN 0 4096 {listens} *:*")
    Path(host.values["MINIKUBE_UNIT"]).write_text("[Unit]\nDescription=new\n")
    assert host.apply(*call) == host.check(*call) == ""
    words = ["-n", "kube-system", "rollout", "restart", "daemonset", "kube-proxy"]
    assert [each[1:] for each in host.called("kubectl")].count(words) == restarts


@pytest.mark.parametrize("in_node", ["podman exec -i minikube", ""])
def test_a_kube_proxy_is_looked_for_in_its_node(in_node: str, host: Host) -> None:
    """A container has ports of its own; those of a virtual machine can't be seen."""
    host.program("podman", "test $4 != ss || echo LISTEN 0 4096 127.0.0.1:10249 *:*")
    host.program("ss")  # on the host, no kube-proxy listens
    host.values["IN_NODE"] = in_node
    running(host)
    Path(host.values["MINIKUBE_UNIT"]).write_text("[Unit]\nDescription=new\n")
    assert host.apply("cluster.sh", "run") == ""
    assert not host.called("sleep") and not host.called("ss")
    assert bool(host.called("podman")) == bool(in_node)


def test_a_cluster_that_does_not_answer_is_reloaded(host: Host) -> None:
    call = running(host)
    host.program("kubectl", f"test -e {host.folder}/up && {SERVES}")
    assert host.check(*call) == DOWN
    give_systemctl(host, f"test $1 = start || touch {host.folder}/up")
    assert host.apply(*call) == host.check(*call) == ""


def test_an_api_without_its_etcd_does_not_answer(host: Host) -> None:
    call = running(host)
    host.program("kubectl", f'case "$*" in */readyz*) test -e {host.folder}/up; esac && {SERVES}')
    assert host.check(*call) == DOWN
    # It may be busy for a moment.
    host.program("sleep", f"touch {host.folder}/up")
    assert host.check(*call) == ""


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_node_that_is_not_ready_is_brought_back_by_a_reload(is_noticed: bool, host: Host) -> None:
    """The cluster notices after a while that kubelet is down."""
    call = running(host)
    gone = host.folder / ("not_ready" if is_noticed else "no_kubelet")
    gone.touch()
    ready = f'case "$*" in *" wait node "*=Ready) test ! -e {host.folder}/not_ready; esac'
    host.program("kubectl", f"{ready} && {SERVES}")
    assert host.check(*call) == DOWN
    give_systemctl(host, f"test $1 = start || rm {gone}")
    assert host.apply(*call) == host.check(*call) == ""
    assert "reload-or-restart minikube" in called(host)


def test_a_kubelet_that_the_host_can_not_see_is_not_asked_for(host: Host) -> None:
    """In a node that is a virtual machine."""
    call = running(host)
    host.values["IN_NODE"] = ""
    (host.folder / "no_kubelet").touch()
    assert host.check(*call) == ""


def test_certificates_that_have_ended_are_renewed_before_minikube_waits_for_the_cluster(
    host: Host,
) -> None:
    call = running(host)
    host.program(
        "kubectl", f"test -e {host.folder}/renewed && test -e {host.folder}/up && {SERVES}"
    )
    give_systemctl(host, f"test $1 = start || touch {host.folder}/up")
    ended, new = host.folder / "ended.crt", host.folder / "new.crt"
    ended.write_text(fake.pair(days=-1)["certificate"])
    new.write_text(fake.pair(days=365)["certificate"])
    host.values |= {"CLUSTER_CERTIFICATES": str(ended), "KUBEADM": f"{host.bin}/kubeadm"}
    config = host.values["KUBEADM_CONFIG"]
    host.program("kubeadm", f'test "$*" = "certs renew all --config {config}" && cp {new} {ended}')
    host.program("crictl", f"test $1 != ps || touch {host.folder}/renewed")
    assert host.check(*call) == DOWN
    assert host.apply(*call) == host.check(*call) == ""
    calls = [line.split()[0] for line in host.calls.read_text().splitlines()]
    assert calls.index("kubeadm") < calls.index("crictl")
    renewed = host.calls.read_text().index("kubeadm certs renew")
    assert renewed < host.calls.read_text().index("systemctl reload-or-restart minikube")


def test_another_version_is_not_the_wanted_one(host: Host) -> None:
    call = running(host)
    host.program("kubectl", f"echo 'Client Version: v{VERSION}'; echo 'Server Version: v1.32.9'")
    assert host.check(*call) == DOWN


def test_after_an_interruption_minikube_forgets_its_configuration(host: Host) -> None:
    call = running(host)
    unit, kubeadm = Path(host.values["MINIKUBE_UNIT"]), Path(host.values["KUBEADM_CONFIG"])
    unit.write_text("[Unit]\nDescription=new\n")
    give_systemctl(host, "kill -KILL $PPID")
    done = host.run("cluster.sh", "apply", *call[1:])
    assert done.returncode < 0
    (host.state / "minikube.begun").write_text("of an interrupted reload\n")
    give_systemctl(host)
    assert host.check(*call) != ""
    assert host.apply(*call) == host.check(*call) == ""
    assert not kubeadm.exists()
    assert not (host.state / "minikube.begun").exists()


def test_a_cluster_that_does_not_come_up_shows_its_last_words(host: Host) -> None:
    assert host.apply("cluster.sh", "begin") == ""
    host.program("kubectl", "exit 1")
    done = host.run("cluster.sh", "apply", "run")
    assert done.returncode == 1 and "no space left" in done.stderr
    assert f"minikube does not run Kubernetes v{VERSION}" in done.stderr
    # The next run knows that this one was not done.
    assert (host.state / "minikube.begun").exists() and not (host.state / "minikube").exists()


# minikube.sh

WAY = "1.33.13 1.34.10 1.35.8"


@pytest.fixture
def node(host: Host) -> Host:
    """A host whose cluster has Kubernetes 1.33.1."""
    host.values["MINIKUBE_PROFILE"] = str(host.folder / "MINIKUBE_PROFILE")
    host.values["API_SERVER_MANIFEST"] = str(host.folder / "manifests/kube-apiserver.yaml")
    host.values |= {"OFFLINE_DIR": "", "NODE_IS_HOST": "yes", "IN_NODE": "env"}
    profile(host, "1.33.1")
    (host.folder / "manifests").mkdir()
    (host.folder / "manifests/etcd.yaml").touch()
    Path(host.values["API_SERVER_MANIFEST"]).write_text(
        "    image: registry.k8s.io/kube-apiserver:v1.33.1\n"
    )
    # As minikube does it: the profile first, then what it gives kubeadm, then the API server.
    host.program(
        "minikube",
        'version=${2#*=v}; test "$version" != "$(cat {0}/breaks 2>/dev/null)" || exit 1\n'
        'printf \'{"KubernetesConfig": {"KubernetesVersion": "v%s"}}\' "$version"'
        " > {0}/MINIKUBE_PROFILE\n"
        "echo $version $(cat {0}/KUBEADM_CONFIG) >> {0}/found_config\n"
        "echo $version $(ls {0}/manifests) >> {0}/found_manifests\n"
        "echo $version > {0}/KUBEADM_CONFIG\n"
        'test "$version" != "$(cat {0}/kills 2>/dev/null)" || { kill -KILL $PPID; exit; }\n'
        "touch {0}/manifests/etcd.yaml\n"
        "echo image: x/kube-apiserver:v$version > {0}/manifests/kube-apiserver.yaml".replace(
            "{0}", str(host.folder)
        ),
    )
    return host


def profile(host: Host, version: str) -> None:
    """Let minikube's profile have a version."""
    text = json.dumps({"KubernetesConfig": {"KubernetesVersion": f"v{version}"}}, indent="\t")
    Path(host.values["MINIKUBE_PROFILE"]).write_text(text)


def started(host: Host) -> list[str]:
    """The versions that minikube was started with, in their order."""
    calls = host.called("minikube")
    host.calls.write_text("")
    assert all(each[0] == "start" and each[2:] == ["--driver=none", "--v=3"] for each in calls)
    return [each[1].removeprefix("--kubernetes-version=v") for each in calls]


START = ("minikube.sh", "start", WAY, "--driver=none", "--v=3")


@pytest.mark.parametrize("runs", [True, False])
def test_the_watch_ends_with_the_nodes_container_and_fails(runs: bool, node: Host) -> None:
    node.values["IN_NODE"] = "podman exec -i minikube"
    asked = ["container", "inspect", "--format", "{{.State.Pid}}", "minikube"]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as container:
        node.program("podman", f"echo {container.pid if runs else 0}")
        watch = node.start("watch-node.sh")
        if runs:
            wait_for(lambda: node.called("podman") == [asked], 60, "the watch asks the engine")
            assert watch.poll() is None
    assert watch.communicate(timeout=60)[1] == "<4>the container of minikube's node has ended\n"
    assert watch.returncode == 1


def test_a_cluster_goes_through_each_minor_version(node: Host) -> None:
    # A worker that somebody added keeps its version.
    node.program("kubectl", 'case "$*" in *" --all "*) echo timed out; exit 1 ;; esac')
    assert node.run(*START).returncode == 0
    waits = [words[-1] for words in node.called("kubectl") if "wait" in words]
    # Before the next version the node has the one before and is ready.
    assert waits == [
        "--for=jsonpath={.status.nodeInfo.kubeletVersion}=v1.34.10",
        "--for=condition=Ready",
    ]
    assert started(node) == ["1.34.10", "1.35.8"]
    # Later, as at each start of the host, the cluster has the version already.
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.35.8"]


MADE_AGAIN = ["1.34.10", "1.35.8"]  # the control plane, without a manifest of before
FOUND = "1.35.8 etcd.yaml kube-apiserver.yaml"


def test_kubelet_finds_no_old_manifest_in_a_change(node: Host) -> None:
    assert node.run(*START).returncode == 0
    found = node.folder / "found_manifests"
    assert found.read_text().splitlines() == MADE_AGAIN
    assert node.run(*START).returncode == 0
    assert found.read_text().splitlines() == [*MADE_AGAIN, FOUND]
    # Other arguments are a change too; the same ones are none.
    for _ in range(2):
        assert node.run(*START, "--extra-config=kubelet.v=4").returncode == 0
    assert found.read_text().splitlines() == [*MADE_AGAIN, FOUND, "1.35.8", FOUND]
    assert ["stop", "kubelet"] in node.called("systemctl")
    assert not (node.state / "kubernetes.manifests").exists()


def test_a_change_that_was_cut_off_before_the_new_manifests_knows_the_old_version(
    node: Host,
) -> None:
    (node.folder / "kills").write_text("1.34.10")
    assert node.run(*START).returncode < 0
    assert not (node.folder / "manifests/kube-apiserver.yaml").exists()
    (node.folder / "kills").unlink()
    started(node)
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.34.10", "1.35.8"]


def test_a_new_cluster_has_the_wanted_version_at_once(node: Host) -> None:
    Path(node.values["MINIKUBE_PROFILE"]).unlink()  # as after `minikube delete`
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.35.8"]


@pytest.mark.parametrize("version", ["1.34.10", "1.35.8"])
def test_a_killed_step_is_made_again(version: str, node: Host) -> None:
    (node.folder / "kills").write_text(version)
    assert node.run(*START).returncode < 0
    assert started(node)[-1] == version
    (node.folder / "kills").unlink()
    (node.folder / "found_config").unlink()
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.34.10", "1.35.8"][0 if version == "1.34.10" else 1 :]
    # minikube believed that it had made the version: it finds no file that says so.
    found = (node.folder / "found_config").read_text().splitlines()
    assert version in found and f"{version} {version}" not in found
    assert not (node.state / "kubernetes.starting").exists()


def test_the_next_version_waits_for_the_one_before(node: Host) -> None:
    (node.folder / "breaks").write_text("1.34.10")
    assert node.run(*START).returncode == 1
    assert started(node) == ["1.34.10"]
    (node.folder / "breaks").unlink()
    node.program("kubectl", 'test "$2" != wait')
    assert node.run(*START).returncode == 1
    assert started(node) == ["1.34.10"]


def test_the_api_servers_own_version_counts(node: Host) -> None:
    """minikube's profile names a version before it is made."""
    profile(node, "1.35.8")
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.34.10", "1.35.8"]


def test_a_cluster_elsewhere_has_the_version_of_its_profile(node: Host) -> None:
    Path(node.values["API_SERVER_MANIFEST"]).unlink()
    profile(node, "1.34.1")
    assert node.run(*START).returncode == 0
    assert started(node) == ["1.35.8"]


def test_a_version_between_comes_from_the_offline_folder(node: Host) -> None:
    node.values["OFFLINE_DIR"] = "/no/such/folder"
    assert node.run(*START).returncode != 0
    assert started(node) == []


# offline-files.sh


def test_a_folder_that_is_missing_has_something_to_do(host: Host) -> None:
    assert host.run("offline-files.sh", "check", "/no/such/folder", VERSION).returncode != 0


# offline-node.sh


def test_the_nodes_image_gets_the_deploys_own_name(host: Host) -> None:
    call = ("offline-node.sh", "podman", "/srv/node.tar", "localhost/node:1")
    host.program("podman", f"case $1 in image) exit 1 ;; load) cat {host.folder}/loaded ;; esac")
    assert host.check(*call) == "podman does not have localhost/node:1"
    assert host.apply(*call) != ""  # the archive can't be loaded
    (host.folder / "loaded").write_text("Loaded image: registry.example/kicbase:v2\n")
    assert host.apply(*call) == ""
    assert host.called("podman")[-3:] == [
        ["load", "-qi", "/srv/node.tar"],
        ["tag", "registry.example/kicbase:v2", "localhost/node:1"],
        ["rmi", "registry.example/kicbase:v2"],
    ]
    host.program("podman", 'test "$*" = "image inspect localhost/node:1"')
    assert host.check(*call) == ""


# cluster-addons.py


def test_addons_are_enabled_once(host: Host) -> None:
    state = {"dashboard": {"Status": "enabled"}, "metrics-server": {"Status": "disabled"}}
    listed = host.folder / "addons"
    listed.write_text(json.dumps(state))
    host.program("minikube", f'test "$HOME" = /root || exit 1\ntest "$2" = enable || cat {listed}')
    assert host.check("cluster-addons.py", "dashboard") == ""
    call = ("cluster-addons.py", "dashboard", "metrics-server", "other")
    sentence = "minikube's addons are not enabled: metrics-server, other"
    assert host.check(*call) == sentence
    assert host.apply(*call) == ""
    enabled = [words[2] for words in host.called("minikube") if words[1] == "enable"]
    assert enabled == ["dashboard", "metrics-server", "other"]


# offline-images.py


def image_archive(path: Path, references: list[str]) -> None:
    """Write an archive of images with a layer that they share, as `docker save` does."""
    manifest = []
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: str) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))

        add("shared/layer.tar", "shared layer")
        for number, reference in enumerate(references):
            add(f"{number}.json", f"config {number}")
            link = tarfile.TarInfo(f"{number}/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, "../shared/layer.tar"
            archive.addfile(link)
            layers = [f"{number}/layer.tar"]
            manifest.append({"Config": f"{number}.json", "RepoTags": [reference], "Layers": layers})
        add("manifest.json", json.dumps(manifest))


def test_each_offline_image_has_a_file_where_minikube_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(programs.LIB)  # as Python does for a program
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    program = runpy.run_path(str(programs.LIB / "offline-images.py"))
    monkeypatch.setitem(program["main"].__globals__, "CACHE", tmp_path / "cache")

    def call(action: str) -> None:
        monkeypatch.setattr(sys, "argv", ["offline-images.py", action, str(tmp_path)])
        program["main"]()

    references = ["registry.k8s.io/kube-apiserver:v1.35.8", "registry.k8s.io/coredns/coredns:v1.13"]
    image_archive(tmp_path / "images.tar", references)
    with pytest.raises(SystemExit, match=f"^minikube's cache lacks {references[0]}$"):
        call("check")
    # As a killed run leaves it.
    draft = tmp_path / "cache/registry.k8s.io/kube-apiserver_v1.35.8.new"
    draft.parent.mkdir(parents=True)
    draft.write_text("half")
    call("apply")
    call("check")
    assert not draft.exists()
    for number, reference in enumerate(references):
        with tarfile.open(tmp_path / "cache" / reference.replace(":", "_")) as archive:

            def read(name: str, archive: tarfile.TarFile = archive) -> str:
                content = archive.extractfile(name)
                assert content
                return content.read().decode()

            (image,) = json.loads(read("manifest.json"))
            assert image["RepoTags"] == [reference]
            assert read(image["Config"]) == f"config {number}"
            assert [read(name) for name in image["Layers"]] == ["shared layer"]


def test_a_version_between_is_placed_for_a_node_that_is_not_the_host(node: Host) -> None:
    node.values |= {
        "NODE_IS_HOST": "",
        "IN_NODE": "podman exec -i minikube",
        "OFFLINE_DIR": "/srv/no",
    }
    node.program("podman", "exit 1")  # the container is stopped: the profile tells the version
    done = node.run(*START)
    # offline-files.sh misses the folder of the first version on the way.
    assert done.returncode != 0 and "/srv/no/v1.34.10" in done.stderr


def test_a_minikube_that_does_not_answer_has_something_to_do(host: Host) -> None:
    host.program("minikube", "exit 1")
    assert host.check("cluster-addons.py", "dashboard") != ""
    assert host.apply("cluster-addons.py", "dashboard") != ""
