"""One changed byte in a file that the deploy fetches ends it before the file is used; of each kind.

The offline folder of minikube is tested with the rest of bad input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.cluster import programs
from tasks.layout import EXTRA_LOCK, LIB, REQUIREMENTS, UV, VENVS
from tasks.settings import SETTINGS, Settings
from tests.e2e import flipping_proxy
from tests.e2e.conftest import Shell
from tests.e2e.support import deploy
from tests.sandbox import inventory
from tests.sandbox.machine import Machine

FOLDER = "/tmp/e2e-supply"
PROXY = "127.0.0.1:19004"
INDEX = f"http://{PROXY}/https/pypi.org/simple"
# The machine's own configuration, that makes it fetch through the proxy.
PIP = {"/etc/pip.conf": f"[global]\nindex-url = {INDEX}\n"}
UV_CONFIG = {"/etc/uv/uv.toml": f'[[index]]\nurl = "{INDEX}"\n'}
APT = {
    "/etc/apt/apt.conf.d/99e2e": f'Acquire::http::Proxy "http://{PROXY}";\n'
    f'Dir::Cache::archives "{FOLDER}/archives";\n'
}
NOTHING = "(?!)"  # as a regular expression
# The programs, and the settings with their versions and their checksums.
PROGRAMS = {
    "kubectl": ("kubernetes_version", "kubernetes_kubectl_sha256"),
    "minikube": ("minikube_version", "minikube_sha256"),
    "crictl": ("minikube_crictl_version", "minikube_crictl_sha256"),
}

LOOK_AT_AIRFLOW = (
    "systemctl show -P InvocationID airflow-api-server airflow-scheduler airflow-dag-processor"
    " airflow-triggerer; readlink -f /opt/airflow/venv; cat /etc/airflow/pod_template.yaml;"
    " ctr -n k8s.io images ls -q | grep /airflow-worker:; ls -d /opt/airflow/venvs/*/.complete"
)


@pytest.fixture(autouse=True)
def airflow_goes_on(shell: Shell) -> Iterator[None]:
    """The running services are not touched, and neither are their files."""
    before = shell(LOOK_AT_AIRFLOW)
    program = Path(flipping_proxy.__file__).read_text()
    shell(f"mkdir -p {FOLDER}/archives/partial && cat > {FOLDER}/proxy.py <<'END'\n{program}\nEND")
    yield
    shell(f"rm -r {FOLDER}")
    assert shell(LOOK_AT_AIRFLOW) == before


@contextmanager
def damaged(
    shell: Shell,
    what: str,
    configuration: Mapping[str, str],
    passed: str = "",
    listen: str = PROXY,
    *certificate: str,
) -> Iterator[None]:
    """The machine fetches through a proxy that damages some files."""
    arguments = " ".join(f"'{each}'" for each in (listen, FOLDER, passed, what, *certificate))
    shell(
        f"systemd-run --quiet --collect --unit=e2e-flip --property=StandardOutput=file:{FOLDER}/log"
        f" python3 {FOLDER}/proxy.py {arguments};"
        f" timeout 60 sh -c 'until ss -Hltn | grep -qF {listen}; do sleep 0.1; done'"
    )
    for path, text in configuration.items():
        shell(f"test ! -e {path} || cp -a {path} {path}.e2e")
        shell(f"mkdir -p {Path(path).parent} && cat > {path} <<'END'\n{text}END")
    try:
        yield
    finally:
        for path in configuration:
            shell(f"if test -e {path}.e2e; then mv {path}.e2e {path}; else rm {path}; fi")
            shell(f"rmdir --ignore-fail-on-non-empty {Path(path).parent}")
        shell("systemctl stop e2e-flip")
    if what != NOTHING:
        assert "damaged" in shell(f"cat {FOLDER}/log; rm {FOLDER}/log")


def passing(package: str) -> str:
    """Only this package is in the index; the others are found where they always are."""
    return f"/simple/{package}/|/packages/"


def wheel(package: str) -> str:
    """A package's file."""
    return rf"/{package}-[^/]*[.]whl$"


def refused(*said: str, settings: dict[str, object] | None = None) -> None:
    """The deploy ends with an error that says this."""
    run = deploy(settings=settings)
    assert run.code != 0
    for words in said:
        assert words in run.output, run.output


def healed(*changed: str) -> None:
    """The deploy does just this, and then nothing."""
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == list(changed)
    assert deploy().changed == []


def test_uv_and_the_packages_that_it_installs_beside_itself(shell: Shell) -> None:
    shell(f"rm {UV}/installed.txt")
    with damaged(shell, wheel("uv"), PIP):
        refused("DO NOT MATCH THE HASHES", "uv==")
    shell(f"! test -e {UV}/bin/uv")
    with damaged(shell, wheel("debsbom"), UV_CONFIG, passing("debsbom")):
        refused("Hash mismatch for `debsbom==")
    shell(f"test -e {UV}/bin/uv && ! test -e {UV}/bin/debsbom")
    healed("Worker image | Install the programs that list the image's packages")


def test_a_package_of_airflow(shell: Shell) -> None:
    """One that is locked, in a venv of other requirements."""
    settings: dict[str, object] = {"airflow_extra_requirements": ["cowsay==6.1"]}
    installed = f"ls -d {VENVS}/*/lib/*/site-packages/*"
    before = shell(installed)
    with damaged(shell, wheel("tabulate"), UV_CONFIG, passing("tabulate")):
        refused("Hash mismatch for `tabulate==", settings=settings)
    assert shell(installed) == before
    healed("Airflow | Remove old venvs")


def test_what_the_inventory_adds_is_locked_from_its_first_installation_on(shell: Shell) -> None:
    """In a venv that nothing uses."""
    venv, python = f"{VENVS}/e2e", "$(readlink -f /usr/bin/python3)"
    lock = f"{REQUIREMENTS}/{Settings.from_data({}).airflow.version}.txt"
    install = f"{LIB}/venv.sh apply {venv} {python} {lock} 'cowsay>=6'"
    try:
        shell(install)
        locked = shell(f"cat {EXTRA_LOCK}")
        (name,) = re.findall("^cowsay==[0-9.]+", locked, re.MULTILINE)
        assert "--hash=sha256:" in locked
        # It is lost, and the index has another file under the same name.
        shell(f"rm {venv}/.complete; {UV}/bin/uv cache clean --quiet cowsay")
        with damaged(shell, wheel("cowsay"), UV_CONFIG, passing("cowsay")):
            said = shell(f"{install} 2>&1 && echo installed || true")
        assert f"Hash mismatch for `{name}`" in said
        shell(install)
        assert shell(f"cat {EXTRA_LOCK}") == locked
    finally:
        shell(f"rm -rf {venv} {EXTRA_LOCK}*")


def test_a_program(shell: Shell, machine: Machine) -> None:
    """Served are files that differ from those in place, so that they are fetched."""
    given = inventory.settings(machine)
    files = programs.needed(Settings.from_data(given), "amd64")
    hosts = sorted({each.host for each in files})
    names = ",".join(f"DNS:{host}" for host in hosts)
    shell(
        f"cd {FOLDER} && openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=e2e"
        f" -addext subjectAltName={names} -keyout key -out crt 2>/dev/null"
    )
    settings: dict[str, object] = {"offline_dir": None}
    for program, served in zip(PROGRAMS, files, strict=True):
        path = f"{FOLDER}/{served.file}"
        archived = f"tar -czf {path} -C /usr/local/bin crictl"
        changed = f"cp /usr/local/bin/{program} {path} && echo >> {path}"
        shell(archived if program == "crictl" else changed)
        # A checksum that is not the official one counts beside its version.
        version, checksum = PROGRAMS[program]
        settings[version] = given.get(version, SETTINGS[version].field.default)
        settings[checksum] = shell(f"sha256sum < {path}").split()[0]
    listen = "127.0.0.1:19005"
    elsewhere = "".join(f'connect-to = "{host}:443:{listen}"\n' for host in hosts)
    configuration = {
        # Preflight asks only whether their ports answer, as that of the web page does.
        "/etc/hosts": shell("cat /etc/hosts") + f"\n127.0.0.1 {' '.join(hosts)}\n",
        "/root/.curlrc": f'cacert = "{FOLDER}/crt"\n{elsewhere}',
    }
    tls = ("", listen, f"{FOLDER}/crt", f"{FOLDER}/key")
    for program, served in zip(PROGRAMS, files, strict=True):
        before = shell(f"sha256sum /usr/local/bin/{program}")
        with damaged(shell, f"/{served.file}$", configuration, *tls):
            refused(f"{served.file} does not have the pinned checksum", settings=settings)
        assert shell(f"sha256sum /usr/local/bin/{program}") == before
    with damaged(shell, NOTHING, configuration, *tls):
        run = deploy(settings=settings)
        assert run.changed == ["minikube | Install crictl"], run.output  # the others were before
        assert deploy(settings=settings).changed == []
    # The offline folder is named again, and has the programs of before.
    installed = (f"minikube | Install {program}" for program in PROGRAMS)
    healed("System | Write /etc/airflow/host.env", *installed)


def test_a_debian_package_of_the_host(shell: Shell) -> None:
    shell("dpkg --remove --force-depends ethtool")
    with damaged(shell, "/InRelease$", APT):
        refused("InRelease", "signature")
    with damaged(shell, r"/ethtool_[^/]*[.]deb$", APT):
        refused("/ethtool_", "Hash Sum mismatch")
    shell("! dpkg --status ethtool | grep -q '^Status: .* installed'")
    healed("System | Install Debian packages (about a minute the first time)")


def test_a_debian_package_of_the_worker_image(shell: Shell) -> None:
    sources = shell("ls /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
    configuration = {
        path: re.sub("(https?)://", rf"http://{PROXY}/\1/", shell(f"cat {path}")) + "\n"
        for path in sources.split()
    }
    with damaged(shell, "/InRelease$", configuration):
        # The host has this one, so it asks for nothing itself.
        refused("InRelease", "signature", settings={"worker_extra_apt_packages": ["ethtool"]})
    shell("! ls /opt/airflow/image/*.tar 2>/dev/null")
    healed("System | Write /etc/airflow/host.env")  # which has the image's packages
