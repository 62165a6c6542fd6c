"""Settings: accepted ones, refused ones with the words of the refusal, and derived values."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydantic import ValidationError
from pyinfra.api import DeployError

from tasks.airflow import venv
from tasks.layout import EXTRA_LOCK
from tasks.settings import (
    RENAMED,
    SECTIONS,
    SETTINGS,
    HostSettings,
    Settings,
    computed_once,
)
from tasks.settings.minikube import MINIKUBE_SHA256, STARTS
from tasks.settings.types import numbers
from tasks.settings.web import Web
from tasks.worker import image
from tests.unit import fake
from tests.unit.fake import DEFAULTS, EXISTING, EXISTING_DATABASE, PAIR

PUBLIC = {"web_host": "0.0.0.0"}
BUNDLES = {"dags_git_bundles": {"team": {"url": "https://git.example/dags.git"}}}


def test_defaults_are_valid() -> None:
    # pydantic does not check defaults; here they are checked like given values.
    defaults = {
        f"{section}_{name}": value
        for section, values in DEFAULTS.model_dump(include=set(SECTIONS)).items()
        for name, value in values.items()
    }
    assert defaults.keys() == SETTINGS.keys()
    assert Settings.from_data(defaults) == DEFAULTS


def test_every_setting_is_described_by_a_sentence() -> None:
    said = {key: setting.field.description or "" for key, setting in SETTINGS.items()}
    assert not [
        name for name, text in said.items() if not re.fullmatch(r"(?:[A-Z]|minikube).+\.", text)
    ]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        DEFAULTS.web.port = 8081
    with pytest.raises(ValidationError):
        DEFAULTS.web = Web()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("web_prot", "web_port"),
        ("minikube_sha", "minikube_sha256"),
        ("worker_apt_package", "worker_extra_apt_packages"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_right_one(key: str, near: str) -> None:
    assert fake.refusal({key: "x"}) == f"{key} is not a setting; did you mean {near}?"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_under_its_old_name_ends_the_run_with_the_new_one(old: str, new: str) -> None:
    assert new in SETTINGS and old not in SETTINGS
    assert fake.refusal({old: OTHER[new]}) == f"{old} is now {new}: write that name"


@pytest.mark.parametrize("key", ["airflow", "web", "offline", "web_", "kubernetes.version"])
def test_a_section_is_no_setting(key: str) -> None:
    assert fake.refusal({key: {"port": 8090}}).startswith(f"{key} is not a setting")


def test_a_key_within_a_setting_is_named_with_its_setting() -> None:
    registry = {"repository": "r.example/b", "passwort": "s3cret"}
    sentence = fake.refusal({"worker_registry": registry})
    assert sentence.startswith("worker_registry.passwort is not a setting")
    assert "s3cret" not in sentence


def test_a_strange_setting_points_to_the_readme() -> None:
    sentence = fake.refusal({"xyzzy": 1})
    assert "xyzzy is not a setting" in sentence and "README.md" in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("web_port", "8080"),
        ("web_port", True),
        ("web_port", 8080.0),
        ("airflow_smoke_test", 1),
        ("airflow_smoke_test", "true"),
        ("airflow_version", 3.3),
        ("web_base_url", 1),
        ("postgres_config", {"max_connections": 200}),
        ("postgres_version", "15"),
        ("minikube_extra_args", [1]),
    ],
)
def test_a_wrong_type_is_refused_with_key_and_value(key: str, value: Any) -> None:
    sentence = fake.refusal({key: value})
    assert sentence.startswith(key) and "should be a valid" in sentence
    innermost = next(iter(value.values())) if isinstance(value, dict) else value
    innermost = innermost[0] if isinstance(innermost, list) else innermost
    assert sentence.endswith(f"not {innermost!r}")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"airflow_extra_requirements": "boto3"},
            "airflow_extra_requirements: should be a valid list",
        ),
        ({"airflow_config": {"core": "x"}}, "airflow_config.core: should be a valid dictionary"),
    ],
)
def test_a_bare_text_is_no_list_and_no_section(given: dict[str, Any], sentence: str) -> None:
    # Such a value may be secret, so the sentence ends here.
    assert fake.refusal(given) == sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("airflow_version", "3.3"),
        ("kubernetes_version", "v1.33.1"),
        ("web_port", 0),
        ("web_port", 65536),
        ("airflow_uid", 0),
        ("web_admin_user", "o'hara"),
        ("kubernetes_kubectl_sha256", "5de4e9f2"),
        ("minikube_sha256", "A" * 64),
        ("minikube_crictl_sha256", "a" * 64 + "\n"),
        ("kubernetes_namespace", "Airflow"),
        ("kubernetes_namespace", "a" * 64),
        ("kubernetes_provider", "k3s"),
        ("kubernetes_kubeconfig", "cluster.yaml"),
        ("offline_dir", "offline"),
        ("offline_dir", "/srv/off line"),
        ("offline_dir", "/srv/it's"),
        ("worker_extra_apt_packages", ["jq; reboot"]),
        ("postgres_version", 13),
        ("worker_image", "image name"),
        ("web_host", "$(reboot)"),
        ("web_base_url", "airflow.example"),
        ("web_base_url", 'https://airflow.example/";'),
        ("web_host_names", ["airflow example"]),
        ("web_host_names", ["-x"]),
        ("web_host", "1.2.3.4:99"),
        ("web_virtual_address", "192.0.2.10/24"),
        ("web_virtual_address", "airflow.example"),
        ("web_virtual_address", "2001:db8::7"),
        ("web_virtual_address", "127.0.0.2"),
        ("web_virtual_address", "224.0.0.18"),
        ("web_virtual_address", "0.0.0.0"),
        ("web_virtual_address", "255.255.255.255"),
        ("web_virtual_address", "192.0.2.10\n"),
        ("web_host", "münchen"),
        ("web_base_url", "https://airflow.example:99999"),
        ("web_base_url", "https://airflow.example/a/../b"),
        ("execution_api_host", "1.2.3"),
        ("execution_api_host", "fe80::1%eth0"),
        ("execution_api_host", "0.0.0.0"),
        ("offline_dir", "/srv/../home"),
        ("offline_dir", "/srv/offline/"),
        ("worker_pod_override", {"spec": {"volumes": [{"name": "a", "hostPath": "/srv"}]}}),
        ("worker_pod_override", {"spec": {"volumes": [{"name": "a", "hostPath": {"path": 1}}]}}),
        ("worker_pod_override", {"spec": {"nodeSelector": {"a": float("nan")}}}),
        ("worker_pod_override", {"spec": {"nodeSelector": {"a": b"b"}}}),
        ("worker_pod_override", {"spec": {"nodeSelector": {1: "b"}}}),
        ("airflow_extra_requirements", ["--index-url=https://pypi.example"]),
        ("web_logins_per_minute", 0),
        ("web_certificate", {"certificate": "/etc/ssl/own.pem", "key": "hidden"}),
        ("kubernetes_namespace", "123"),
        ("proxy_extra_exceptions", ["*.example.com"]),
        ("proxy_extra_exceptions", ["192.0.2.*"]),
    ],
)
def test_an_impossible_value_is_refused(key: str, value: Any) -> None:
    others = EXISTING if key == "kubernetes_kubeconfig" else {}
    sentence = fake.refusal({**others, key: value})
    assert sentence.startswith(key) and "\n" not in sentence


def test_a_wildcard_of_the_proxys_exceptions_has_a_cure() -> None:
    assert "such as .example.com" in fake.refusal({"proxy_extra_exceptions": ["*.example.com"]})


FOLDERS = (
    *("/", "/etc", "/etc/x", "/var/lib", "/var/lib/airflow/x", "/opt/airflow/dags", "/home"),
    "/var/lib/docker/volumes",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_claim_is_no_folder_of_the_system(folder: str) -> None:
    claim = {"name": "logs", "host_path": folder}
    sentence = fake.refusal({"logs_store": "volume_claim", "logs_claim": claim})
    assert sentence.startswith("logs_claim.host_path") and "\n" not in sentence


@pytest.mark.parametrize("folder", ["/data", "/srv/logs", "/tmp/hostpath-provisioner/airflow/logs"])
def test_a_claim_is_a_folder_of_its_own(folder: str) -> None:
    claim = {"name": "logs", "host_path": folder}
    fake.settings({"logs_store": "volume_claim", "logs_claim": claim})


def test_a_version_without_lock_file_is_told_the_locked_ones() -> None:
    sentence = fake.refusal({"airflow_version": "9.9.9"})
    assert "no lock file for 9.9.9" in sentence
    assert sentence.endswith("3.3.2")


@pytest.mark.parametrize("missing", sorted(EXISTING.keys() - {"kubernetes_provider"}))
def test_an_existing_cluster_needs_all_that_is_known_of_it(missing: str) -> None:
    given = {key: value for key, value in EXISTING.items() if key != missing}
    sentence = fake.refusal(given)
    assert sentence.startswith(f"{missing}: ") and "write" in sentence


BEFORE = f"1.{numbers(STARTS[0])[1] - 1}.99"
AFTER = f"1.{numbers(STARTS[1])[1] + 1}.0"


@pytest.mark.parametrize("version", ["1.20.0", BEFORE, AFTER, "1.99.0", "2.30.0"])
def test_a_kubernetes_that_minikube_does_not_start_is_refused(version: str) -> None:
    """minikube itself only warns, since it is started with --force."""
    given = fake.pinned(kubernetes_version=version)
    sentence = (
        f"kubernetes_version: minikube {DEFAULTS.minikube.version} starts Kubernetes"
        f" {STARTS[0]} to {STARTS[1]}, and not {version}: write"
    )
    assert fake.refusal(given).startswith(sentence)
    with pytest.raises(DeployError, match=r"^kubernetes_version: minikube"):
        fake.beside_cluster({}, given)
    # Another minikube is the admin's choice, as another cluster is, which needs only kubectl.
    other = {**given, **fake.pinned(minikube_version="1.99.0")}
    fake.settings({**other, "kubernetes_pod_policy": False})
    fake.settings({**EXISTING, **given})


def test_a_kubernetes_without_admission_policies_is_refused() -> None:
    """The deploy would end well, and nothing would restrict task pods."""
    older = fake.pinned(kubernetes_version="1.29.14")
    sentence = fake.refusal(older)
    assert sentence.startswith("kubernetes_version: 1.29.14 has no admission policies")
    assert "1.30" in sentence and "kubernetes_pod_policy = false" in sentence
    with pytest.raises(DeployError, match=r"^kubernetes_version: 1\.29\.14 has no admission"):
        fake.beside_cluster({}, older)
    allowed = {"kubernetes_pod_policy": False}
    fake.settings({**older, **allowed})
    fake.beside_cluster(allowed, older)
    fake.settings(fake.pinned(kubernetes_version="1.30.0"))


@pytest.mark.parametrize(("key", "sum_key"), [*fake.SUMS.items()])
def test_a_version_needs_its_own_checksum(key: str, sum_key: str) -> None:
    """Otherwise the first deploy fails half-way, and the download looks like a forged one."""
    sentence = fake.refusal({key: "1.35.99"})
    assert sentence.startswith(f"{key}: the deploy knows only the checksum of ")
    assert f"write {sum_key}" in sentence and sentence.endswith("1.35.99")
    # One that stayed when its version went.
    left = {sum_key: "0" * 64}
    assert fake.refusal(left).startswith(f"{sum_key}: this is no checksum of ")
    # Beside a version that is written it may be that of an own build.
    fake.settings({**left, key: SETTINGS[key].field.default})
    fake.settings(fake.pinned(**{key: "1.35.99"}))
    # The offline folder has its own checksums.
    for given in ({key: "1.35.99"}, left):
        fake.settings({**given, "offline_dir": "/srv/offline"})


def test_the_defaults_own_checksums_may_be_written() -> None:
    for checksum in MINIKUBE_SHA256.values():
        assert fake.settings({"minikube_sha256": checksum}).minikube.sha256 == checksum


def test_only_the_programs_that_a_host_installs_need_checksums() -> None:
    crictl = {"minikube_crictl_version": "1.35.99"}
    fake.settings({**fake.ANOTHER_DRIVER, "minikube_driver": "podman", **crictl})
    fake.settings({**EXISTING, **crictl, "minikube_version": "1.99.0"})
    assert "kubernetes_kubectl_sha256" in fake.refusal(
        {**EXISTING, "kubernetes_version": "1.35.99"}
    )


@pytest.mark.parametrize("minor", STARTS)
def test_the_oldest_and_the_newest_kubernetes_of_minikube_are_accepted(minor: str) -> None:
    given = fake.pinned(kubernetes_version=f"{minor}.99")
    fake.settings({**given, "kubernetes_pod_policy": False})


def test_minikube_starts_the_default_kubernetes() -> None:
    oldest, newest = map(numbers, STARTS)
    assert oldest <= numbers(DEFAULTS.kubernetes.version)[:2] <= newest


@pytest.mark.parametrize("driver", ["podman", "docker"])
def test_a_minikube_that_mounts_no_folder_in_a_container_is_refused(driver: str) -> None:
    older = fake.pinned(minikube_version="1.36.9")
    sentence = fake.refusal({"minikube_driver": driver, **older})
    assert sentence.startswith("minikube_version: write 1.37.0 or a newer one")
    fake.settings(older)
    fake.settings({"minikube_driver": driver, **older, "minikube_version": "1.37.0"})


def test_the_deploy_asks_minikubes_cluster_whatever_a_person_asks() -> None:
    """A person's current context may be another one."""
    assert fake.settings().kubectl.endswith("--kubeconfig=/root/.kube/config --context=minikube")


@pytest.mark.parametrize("key", ["kubernetes_kubeconfig", "kubernetes_context"])
def test_minikube_takes_no_kubeconfig(key: str) -> None:
    sentence = fake.refusal({key: "/root/cluster.yaml"})
    assert key in sentence and 'kubernetes_provider = "existing"' in sentence


@pytest.mark.parametrize(
    ("given", "key", "cure"),
    [
        ({"logs_store": "s3"}, "logs_s3", "write its folder and connection"),
        ({"logs_store": "volume_claim"}, "logs_claim", "write its claim"),
        (
            {"logs_s3": {"folder": "s3://logs", "connection": "s3"}},
            "logs_s3",
            'write "s3" there',
        ),
        ({"minikube_driver": "kvm2"}, "dags_source", 'write "image", "git"'),
        (
            {"airflow_config": {"core": {"default_timezone": "system"}}},
            "airflow_config: core.default_timezone",
            "write the name of a zone",
        ),
        (
            {"dags_env": {"AIRFLOW__CORE__DEFAULT_TIMEZONE": "system"}},
            "dags_env: AIRFLOW__CORE__DEFAULT_TIMEZONE = system",
            "write the name of a zone",
        ),
        ({"dags_source": "git"}, "dags_git_bundles", "write its url"),
        (
            {"dags_source": "git", **BUNDLES, "dags_local_folder": "tests/e2e/dags"},
            "dags_local_folder",
            "leave it out",
        ),
        ({"dags_source": "image"}, "dags_local_folder", "write the folder"),
        ({"dags_local_folder": "/no/such/folder"}, "dags_local_folder", "write the path of one"),
        (
            {"dags_git_bundles": {"deploy": {"url": "https://git.example/x.git"}}},
            "dags_git_bundles: deploy",
            "choose another name",
        ),
        (
            {
                "dags_source": "volume_claim",
                "dags_claim": {"name": "dags", "host_path": "/home/ada/dags"},
            },
            "dags_claim",
            "choose a place elsewhere",
        ),
        (
            {"worker_image": "a/b:1", "worker_registry": {"repository": "r.example/b"}},
            "worker_image and worker_registry",
            "leave one out",
        ),
        (
            {"worker_image": "a/b:1", "worker_image_edition": 202611},
            "worker_image and worker_image_edition",
            "leave one out",
        ),
    ],
)
def test_settings_that_exclude_each_other(given: dict[str, Any], key: str, cure: str) -> None:
    sentence = fake.refusal(given)
    assert sentence.startswith(key) and cure in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (
            {"airflow_connections": {"api": {"conn_type": "http", "password": ["s3cret"]}}},
            "airflow_connections.api.password",
        ),
        ({"airflow_variables": {"key": ["s3cret"]}}, "airflow_variables.key"),
        ({"airflow_config": {"smtp": {"smtp_password": ["s3cret"]}}}, "airflow_config.smtp"),
        ({"airflow_config": {"smtp": {"smtp_password": "s3cret\0"}}}, "airflow_config contains"),
        ({"dags_env": {"TOKEN": ["s3cret"]}}, "dags_env.TOKEN"),
        ({"worker_pod_override": {"spec": {"containers": "s3cret"}}}, "worker_pod_override.spec"),
        ({"kubernetes_extra_manifests": [{"kind": ["s3cret"]}]}, "kubernetes_extra_manifests.0"),
        (
            {"airflow_extra_requirements": ["team @ git+ssh://git@git.example/team.git"]},
            "airflow_extra_requirements.0: the requirement comes by ssh",
        ),
        (
            {"airflow_extra_requirements": ["team @ https://me:s3cret@pypi.example/team.whl"]},
            "airflow_extra_requirements.0: the URL of a requirement",
        ),
        (
            {"airflow_extra_requirements": [f"team @ https://s3cret@pypi.example/{'x' * 1000}"]},
            "airflow_extra_requirements.0",
        ),
        (
            {"dags_git_bundles": {"team": {"url": "https://me:s3cret@git.example/x.git"}}},
            "dags_git_bundles: the url of team",
        ),
        (
            {"dags_git_bundles": {"team": {"url": "https://s3cret @git.example/x.git"}}},
            "dags_git_bundles.team.url",
        ),
        (
            {"worker_registry": {"repository": "r.example/b", "password": ["s3cret"]}},
            "worker_registry.password",
        ),
        ({"proxy_url": "http://ada:s3cret@proxy.example:3128"}, "proxy_url: has a login"),
        ({"web_base_url": "ftp://ada:s3cret@x.example"}, "web_base_url"),
        (
            {"web_login_config": "AUTH_TYPE = 2\npassword = s3cret s3cret\n"},
            "web_login_config: the text is no Python in line 2",
        ),
        ({"web_login_config": ["s3cret"]}, "web_login_config"),
        (
            {"web_users": {"ada": {"roles": ["Op"], "password": ["s3cret"]}}},
            "web_users.ada.password",
        ),
        (
            {"web_certificate": {**PAIR, "key": ["s3cret"]}},
            "web_certificate.key",
        ),
        (
            {"web_certificate": {**PAIR, "key": "s3cret"}, **PUBLIC},
            "web_certificate: key can't be read",
        ),
    ],
)
def test_a_value_that_may_be_secret_is_not_repeated(given: dict[str, Any], key: str) -> None:
    sentence = fake.refusal(given)
    assert sentence.startswith(key) and "s3cret" not in sentence


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ({"repository": "team/airflow"}, "repository"),
        ({"repository": "https://registry.example/airflow"}, "repository"),
        ({"repository": "registry.example/airflow", "username": "ada"}, "belong together"),
        ({"repository": "registry.example/airflow", "password": "hidden"}, "belong together"),
        ({"repository": "registry.example/airflow", "ca_certificate": "/ca.crt"}, "CERTIFICATE"),
        ({"repository": "registry.example/airflow", "username": "a", "password": 17}, "password"),
    ],
)
def test_a_registry_that_can_not_work_is_refused_and_its_password_hidden(
    registry: dict[str, Any], said: str
) -> None:
    sentence = fake.refusal({"worker_registry": registry})
    assert "worker_registry" in sentence and said in sentence
    assert "hidden" not in sentence and "17" not in sentence


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1"])
def test_pods_do_not_reach_the_host_under_their_own_address(address: str) -> None:
    sentence = fake.refusal({"execution_api_host": address})
    assert sentence.startswith("execution_api_host") and "write" in sentence


def test_an_existing_cluster_has_its_addons_already() -> None:
    assert "leave it out" in fake.refusal({**EXISTING, "minikube_addons": ["dashboard"]})


def test_all_mistakes_are_reported_at_once() -> None:
    wrong = {
        "web_prot": 1,
        "airflow_uid": "50000",
        "kubernetes_kubectl_sha256": "",
        "offline_dir": ".",
    }
    lines = fake.refusal(wrong).splitlines()
    assert sorted(line.replace(":", " ").split()[0] for line in lines) == sorted(wrong)


def test_all_that_an_existing_cluster_lacks_is_reported_at_once() -> None:
    sentence = fake.refusal({"kubernetes_provider": "existing"})
    assert all(key in sentence for key in EXISTING.keys() - {"dags_git_bundles"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ssh_user", "root"),
        ("ssh_port", 22),
        ("ssh_key", "~/.ssh/id_ed25519"),
        ("docker_identifier", "x"),
        ("_sudo", True),
        ("_sudo_user", "root"),
        ("_env", {"A": "b"}),
    ],
)
def test_pyinfras_own_data_is_let_through(key: str, value: Any) -> None:
    assert Settings.from_data({key: value}) == DEFAULTS


def test_only_pyinfras_own_private_names_are_let_through() -> None:
    assert fake.refusal({"_sodu": True}).startswith("_sodu is not a setting")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://$(HOST_IP):8081/execution/"),
        ({"execution_api_port": 9443}, "https://$(HOST_IP):9443/execution/"),
        (fake.ANOTHER_DRIVER, "https://host.minikube.internal:8081/execution/"),
        ({"execution_api_host": "192.0.2.7"}, "https://192.0.2.7:8081/execution/"),
        ({"execution_api_host": "host.example"}, "https://host.example:8081/execution/"),
        # RFC 3986, 3.2.2: an IPv6 address stands between brackets.
        ({"execution_api_host": "2001:db8::7"}, "https://[2001:db8::7]:8081/execution/"),
        (EXISTING, "https://192.0.2.7:8081/execution/"),
    ],
)
def test_address_of_the_execution_api(given: dict[str, Any], url: str) -> None:
    assert Settings.from_data(given).execution_api_url == url


@pytest.mark.parametrize(
    ("release", "given", "version"),
    [
        ("bookworm", None, 15),
        ("trixie", None, 17),
        ("trixie", 16, 16),
        ("noble", None, 16),
        ("resolute", None, 18),
    ],
)
def test_postgres_version_is_the_releases_unless_given(
    release: str, given: int | None, version: int
) -> None:
    settings = Settings.from_data({"postgres_version": given})
    assert settings.for_release(release).postgres.version == version


# A second valid value for each setting.
OTHER: dict[str, Any] = {
    "airflow_version": "3.3.3",
    "airflow_extra_requirements": ["boto3==1.40.0"],
    "airflow_extra_requirements_lock": fake.extra_lock([]),
    "airflow_config": {"core": {"parallelism": "4"}},
    "build_apt_packages": ["build-essential"],
    "build_indexes": {"company": {"url": "https://pypi.example/simple", "default": True}},
    "build_ca_certificate": "-----BEGIN CERTIFICATE-----",
    "airflow_executor": "LocalExecutor,KubernetesExecutor",
    "web_host": "0.0.0.0",
    "web_port": 8090,
    "web_https_port": 8443,
    "web_virtual_address": "198.51.100.10",
    "execution_api_port": 8444,
    "metrics_port": 9187,
    "web_base_url": "https://airflow.example",
    "web_certificate": PAIR,
    "web_host_names": ["airflow.example"],
    "web_login_config": "AUTH_TYPE = 2\n",
    "web_logins_per_minute": 5,
    "web_users": {"ada": {"roles": ["Viewer"], "first_name": "Ada"}},
    "web_roles": {"team": {"DAGs": ["read", "menu"]}},
    "execution_api_host": "192.0.2.8",
    "web_admin_user": "ada",
    "airflow_uid": 50001,
    "airflow_examples": False,
    "airflow_smoke_test": False,
    "dags_source": "git",
    "dags_local_folder": "files/opt/airflow/dags",
    "dags_claim": {"name": "dags", "host_path": "/srv/dags", "size": "1Gi"},
    "plugins_source": "image",
    "plugins_local_folder": "files/opt/airflow/dags",
    "dags_git_bundles": {"team": {"url": "https://git.example/dags.git", "branch": "other"}},
    "logs_store": "s3",
    "logs_claim": {"name": "logs", "host_path": "/srv/logs", "subpath": "tasks"},
    "logs_s3": {"folder": "s3://logs/other", "connection": "s3"},
    "retention_log_days": 0,
    "retention_history_days": 0,
    "airflow_connections": {"api": {"conn_type": "http", "host": "api.example"}},
    "airflow_variables": {"colour": "green"},
    "airflow_pools": {"narrow": {"slots": 1}},
    "retention_backup_recipient": "age1" + "q" * 58,
    "retention_backups": 30,
    "postgres_version": 16,
    "postgres_config": {"work_mem": "16MB"},
    "postgres_provider": "existing",
    "postgres_hosts": ["other.example"],
    "postgres_database": "other",
    "postgres_owner_login": {"username": "other", "password": "hidden"},
    "postgres_dags_login": {"username": "other", "password": "hidden"},
    "postgres_ca_certificate": "-----BEGIN CERTIFICATE-----",
    "postgres_certificate": fake.PAIR,
    "postgres_sslmode": "verify-ca",
    "proxy_url": "http://proxy.example:3128",
    "proxy_extra_exceptions": [".example.com", "10.0.0.0/8", "*"],
    "kubernetes_provider": "existing",
    "kubernetes_kubeconfig": "/root/other.yaml",
    "kubernetes_context": "other",
    "kubernetes_namespace": "other",
    "kubernetes_extra_namespaces": ["team"],
    "kubernetes_extra_manifests": [
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    ],
    "kubernetes_network_policy": True,
    "kubernetes_allowed_networks": ["192.0.2.0/24"],
    "kubernetes_pod_operator": True,
    "kubernetes_pod_policy": False,
    "kubernetes_allowed_host_folders": ["/srv/models"],
    "kubernetes_allowed_users": [1000],
    "kubernetes_allowed_service_accounts": ["team"],
    "kubernetes_version": "1.33.2",
    "kubernetes_kubectl_sha256": "1" * 64,
    "minikube_version": "1.37.0",
    "minikube_sha256": "1" * 64,
    "minikube_driver": "docker",
    "minikube_extra_args": ["--cpus=2"],
    "minikube_addons": ["dashboard"],
    "minikube_crictl_version": "1.33.1",
    "minikube_crictl_sha256": "1" * 64,
    "worker_image": "registry.example/other:2",
    "worker_image_edition": 202611,
    "worker_extra_apt_packages": ["jq"],
    "worker_resources": {},
    "worker_registry": {"repository": "registry.example/airflow"},
    "retention_worker_images": 1,
    "dags_env": {"COLOUR": "green"},
    "worker_pod_override": {"spec": {"nodeSelector": {"disk": "ssd"}}},
    "worker_pod_template": "files/own.yaml",
    "worker_delete_finished_pods": False,
    "retention_failed_pod_minutes": 0,
    "offline_dir": "/srv/offline",
}
S3 = {"folder": "s3://logs", "connection": "s3"}
# These have no meaning alone: the settings that they need.
BASES: dict[str, dict[str, Any]] = {
    "dags_source": {"dags_git_bundles": {"team": {"url": "https://git.example/x"}}},
    "dags_claim": {
        "dags_source": "volume_claim",
        "dags_claim": {"name": "other", "host_path": "/srv/dags"},
    },
    "dags_local_folder": {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"},
    "plugins_source": {"plugins_local_folder": "tests/e2e/dags"},
    "plugins_local_folder": {"plugins_source": "image", "plugins_local_folder": "tests/e2e/dags"},
    "proxy_extra_exceptions": {"proxy_url": "http://proxy.example:3128"},
    "postgres_provider": EXISTING_DATABASE,
    "postgres_hosts": EXISTING_DATABASE,
    "postgres_database": EXISTING_DATABASE,
    "postgres_owner_login": EXISTING_DATABASE,
    "postgres_dags_login": EXISTING_DATABASE,
    "postgres_ca_certificate": EXISTING_DATABASE,
    "postgres_sslmode": EXISTING_DATABASE,
    "postgres_certificate": {"postgres_hosts": ["airflow.example"]},
    "logs_store": {"logs_s3": S3},
    "logs_claim": {
        "logs_store": "volume_claim",
        "logs_claim": {"name": "other", "host_path": "/srv/logs"},
    },
    "logs_s3": {"logs_store": "s3", "logs_s3": S3},
    "build_ca_certificate": {
        "build_indexes": {"company": {"url": "https://pypi.example/simple", "default": True}}
    },
    "web_certificate": {**PUBLIC, "web_certificate": fake.pair()},
    "web_virtual_address": {**fake.SEVERAL, **PUBLIC},
    "minikube_driver": {**fake.ANOTHER_DRIVER, "minikube_driver": "none"},
    "kubernetes_provider": {**EXISTING, "kubernetes_provider": "minikube"},
    "kubernetes_kubeconfig": EXISTING,
    "kubernetes_context": EXISTING,
    "kubernetes_allowed_networks": {"kubernetes_network_policy": True},
    **{
        each: fake.pinned(**{key: "1.34.1"})
        for key, sum in fake.SUMS.items()
        for each in (key, sum)
    },
}
IN_VENV = {"airflow_version", "airflow_extra_requirements"}
IN_IMAGE = IN_VENV | {
    "dags_local_folder",
    "plugins_local_folder",
    "plugins_source",
    "airflow_uid",
    "build_ca_certificate",
    "build_indexes",
    "worker_extra_apt_packages",
    "worker_image",
    "worker_image_edition",
    "worker_registry",
}


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with lock files of two versions of Airflow instead of the repository's."""
    for version in ("3.3.2", "3.3.3"):
        (tmp_path / f"{version}.txt").write_text(f"apache-airflow=={version}\n")
    monkeypatch.setattr("tasks.settings.airflow.LOCKS", tmp_path)
    return tmp_path


def value(settings: Settings, key: str) -> Any:
    """The value of the setting with this key."""
    return getattr(getattr(settings, SETTINGS[key].section), SETTINGS[key].name)


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings of a host, of one that has the database of others, or of one of several."""
    if BASES["postgres_certificate"].items() <= given.items():
        return Settings.of_server(fake.DATABASE_HOST, fake.servers(given))
    if BASES["web_virtual_address"].items() <= given.items():
        return Settings.from_data(given, fake.MEMBERS)
    return Settings.from_data(given)


def before_and_after(name: str) -> tuple[HostSettings, HostSettings]:
    """Settings as they are and with another value of one of them."""
    base = dict(BASES.get(name, {}))
    if name == "kubernetes_provider":
        del base["kubernetes_kubeconfig"]
        before, changed = base, {**EXISTING, name: OTHER[name]}
    elif name in ("logs_store", "postgres_provider"):
        before, changed = {}, {**base, name: OTHER[name]}
    else:
        before, changed = base, {**base, name: OTHER[name]}
    first, second = map(settings_of, (before, changed))
    assert value(first, name) != value(second, name)
    return first.for_release("bookworm"), second.for_release("bookworm")


def test_every_setting_has_another_value_to_try() -> None:
    assert OTHER.keys() == SETTINGS.keys()


def test_venv_and_image_are_named_by_their_content_and_nothing_else(locks: Path) -> None:
    venvs, images = set(), set()
    for name in OTHER:
        before, after = before_and_after(name)
        if before.venv_key != after.venv_key:
            venvs.add(name)
        if image.reference(before) != image.reference(after):
            images.add(name)
    assert (venvs, images) == (IN_VENV, IN_IMAGE)


def test_another_lock_file_makes_another_venv_and_image(locks: Path) -> None:
    before = fake.settings()
    names = (before.venv_key, image.reference(before))
    (locks / "3.3.2.txt").write_text("apache-airflow==3.3.2\nidna==3.11\n")
    after = fake.settings()
    assert after.venv_key != names[0] and image.reference(after) != names[1]


def test_the_release_decides_on_the_venv() -> None:
    assert fake.settings().venv_key != DEFAULTS.for_release("trixie").venv_key


def test_the_release_changes_no_setting_but_the_version_of_postgres() -> None:
    given = Settings.from_data(EXISTING)
    completed = given.for_release("trixie")
    differing = {key for key in SETTINGS if value(given, key) != value(completed, key)}
    assert differing == {"postgres_version"}
    # Whether the inventory gives a setting decides too.
    assert completed.worker.model_fields_set == given.worker.model_fields_set == {"image"}


def test_the_lock_file_is_read_once(locks: Path) -> None:
    settings = fake.settings()
    before = (settings.venv, image.reference(settings))
    (locks / "3.3.2.txt").unlink()
    assert (settings.venv, image.reference(settings)) == before


def test_a_value_is_computed_once_for_each_hosts_settings() -> None:
    seen = []

    @computed_once
    def version(settings: HostSettings) -> str:
        seen.append(settings)
        return settings.airflow.version

    first, second = fake.settings(), fake.settings()
    assert [version(each) for each in (first, second, first, second)] == ["3.3.2"] * 4
    assert len(seen) == 2


def test_a_given_image_is_taken_as_it_is() -> None:
    assert image.reference(fake.settings(EXISTING)) == EXISTING["worker_image"]


# Settings that can't work together, and words of the sentence that says so.
INDEX = {"url": "https://pypi.example/simple"}
CONFLICTS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"build_indexes": {name: {**INDEX, "default": True} for name in ("one", "two")}},
        "build_indexes: only one",
        "leave that out",
    ),
    ({"build_indexes": {"one": {**INDEX, "username": "ada"}}}, "build_indexes", "write both"),
    (
        {"build_indexes": {"one": {**INDEX, "username": "ada", "password": "two words"}}},
        "build_indexes: the login of one",
        "choose another one",
    ),
    (
        {
            "build_indexes": {
                name: {**INDEX, "username": "ada", "password": name} for name in ("one", "two")
            }
        },
        "build_indexes: pypi.example has two logins",
        "write the same",
    ),
    (
        {"build_ca_certificate": "-----BEGIN CERTIFICATE-----"},
        "build_ca_certificate has no meaning",
        "leave it out",
    ),
    ({"metrics_port": 8080}, "metrics_port: 8080", "another one"),
    ({"execution_api_port": 8080}, "execution_api_port: 8080 is web_port", "another one"),
    ({**PUBLIC, "web_https_port": 8081}, "web_https_port: 8081", "another one"),
    (
        {**PUBLIC, "web_virtual_address": "192.0.2.10"},
        "web_virtual_address: it moves among several hosts",
        "leave it out",
    ),
    (
        {
            "plugins_source": "image",
            "plugins_local_folder": "tests/e2e/dags",
            "worker_image": "a/b:1",
        },
        'plugins_source = "image"',
        "leave out worker_image",
    ),
    ({"plugins_source": "image"}, "plugins_local_folder", "write the folder"),
    ({"plugins_local_folder": "none"}, "plugins_local_folder", "there is no folder none"),
    ({**EXISTING, "plugins_source": "host"}, 'plugins_source: "host"', 'write "image"'),
    (
        {"dags_source": "image", "dags_local_folder": "tests/e2e/dags", "worker_image": "a/b:1"},
        'dags_source = "image"',
        "leave out worker_image",
    ),
    (
        {"dags_claim": {"name": "dags", "host_path": "/srv/dags"}},
        "dags_claim has no meaning",
        'write "volume_claim" there',
    ),
    (
        {"logs_claim": {"name": "logs", "host_path": "/srv/logs"}},
        "logs_claim has no meaning",
        'write "volume_claim" there',
    ),
    ({"dags_source": "volume_claim"}, "dags_claim", "write its claim"),
    ({"web_certificate": PAIR}, "web_certificate", "write the address there"),
    *(
        ({"web_certificate": {**PAIR, **wrong}, **PUBLIC}, "web_certificate", words)
        for wrong, words in (
            ({"key": fake.pair()["key"]}, "write those of one pair"),
            ({"certificate": "-----BEGIN CERTIFICATE-----\nx"}, "certificate can't be read"),
            (fake.pair(days=-1), "certificate has ended on 20"),
        )
    ),
    (
        {"worker_pod_override": {"spec": {"containers": [{"name": "sidecar"}]}}},
        "worker_pod_override",
        'write its name "base"',
    ),
    (
        {
            "worker_pod_template": "own.yaml",
            "worker_pod_override": {"metadata": {"labels": {"a": "b"}}},
        },
        "worker_pod_override",
        "leave one out",
    ),
    (
        {"worker_pod_template": "own.yaml", "worker_resources": {"limits": {"cpu": "1"}}},
        "worker_resources",
        "leave one out",
    ),
    ({"dags_env": {"HOST_IP": "192.0.2.7"}}, "dags_env", "choose another name"),
    (
        {"worker_delete_finished_pods": False, "retention_failed_pod_minutes": 0},
        "retention_failed_pod_minutes",
        "write another number",
    ),
    (
        {"kubernetes_extra_namespaces": ["team", "airflow"]},
        "kubernetes_extra_namespaces",
        "write each namespace once",
    ),
    (
        {"kubernetes_extra_namespaces": ["airflow-control"]},
        "kubernetes_extra_namespaces",
        "choose another one",
    ),
    ({"kubernetes_namespace": "a" * 60}, "kubernetes_namespace", "choose a shorter one"),
    (
        {
            "kubernetes_extra_manifests": [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry"}}
            ]
        },
        "kubernetes_extra_manifests",
        "make it on the host with kubectl",
    ),
    *(
        (
            {key: value, "kubernetes_pod_policy": False},
            f"{key} has no meaning with kubernetes_pod_policy = false",
            "leave it out",
        )
        for key, value in {
            "kubernetes_allowed_host_folders": ["/srv/models"],
            "kubernetes_allowed_users": [0],
            "kubernetes_allowed_service_accounts": ["team"],
        }.items()
    ),
    (
        {"kubernetes_allowed_service_accounts": ["airflow-control-plane"]},
        "kubernetes_allowed_service_accounts",
        "make another one",
    ),
    (
        {"kubernetes_allowed_networks": ["192.0.2.0/24"]},
        "kubernetes_allowed_networks",
        "kubernetes_network_policy",
    ),
    (
        {**EXISTING, "kubernetes_network_policy": True, "execution_api_host": "host.example"},
        "kubernetes_network_policy",
        "execution_api_host",
    ),
]


@pytest.mark.parametrize(("given", "key", "words"), CONFLICTS)
def test_settings_that_can_not_work_together_are_refused(
    given: dict[str, Any], key: str, words: str
) -> None:
    sentence = fake.refusal(given)
    assert sentence.startswith(key) and words in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dags_env", {"no name": "x"}),
        ("dags_env", {"COLOUR": 1}),
        ("worker_pod_override", {"spec": []}),
        ("worker_pod_override", {"metadata": {"labels": {"number": 1}}}),
        ("worker_pod_override", {"spec": {"containers": {"name": "base"}}}),
        ("kubernetes_extra_manifests", [{"apiVersion": "v1", "kind": "ConfigMap"}]),
        ("kubernetes_extra_manifests", [{"kind": "ConfigMap", "metadata": {"name": "x"}}]),
        ("kubernetes_extra_namespaces", ["Team"]),
        ("kubernetes_allowed_networks", ["10.0.0.1/8"]),
        ("retention_failed_pod_minutes", -1),
    ],
)
def test_a_part_of_the_wrong_shape_is_named(key: str, value: Any) -> None:
    sentence = fake.refusal({key: value})
    assert sentence.startswith(key) and "\n" not in sentence


@pytest.mark.parametrize(
    ("given", "clash"),
    [
        ({"web_host": "0.0.0.0"}, True),
        ({"web_host": "0.0.0.0", "web_https_port": 8444}, False),
        ({"execution_api_port": 80}, True),
        ({}, False),
        ({**fake.ANOTHER_DRIVER, "web_host": "0.0.0.0"}, False),
    ],
)
def test_the_addon_ingress_takes_ports_of_the_host(given: dict[str, Any], clash: bool) -> None:
    Settings.from_data(given)
    both = {**given, "minikube_addons": ["ingress"]}
    if not clash:
        Settings.from_data(both)
        return
    with pytest.raises(DeployError, match="the addon ingress of minikube takes"):
        Settings.from_data(both)


@pytest.mark.parametrize(
    ("url", "names", "fits"),
    [
        ("https://airflow.example", [x509.DNSName("airflow.example")], True),
        ("https://Airflow.Example:8443/team", [x509.DNSName("AIRFLOW.example")], True),
        ("https://airflow.example", [x509.DNSName("*.example")], True),
        ("https://a.b.example", [x509.DNSName("*.example")], False),
        ("https://example", [x509.DNSName("*.example")], False),
        ("https://airflow.example", [x509.DNSName("other.example")], False),
        ("https://192.0.2.7", [x509.IPAddress(ipaddress.ip_address("192.0.2.7"))], True),
        ("https://192.0.2.7", [x509.DNSName("192.0.2.7")], False),
        ("https://[2001:db8::1]", [x509.IPAddress(ipaddress.ip_address("2001:db8:0::1"))], True),
    ],
)
def test_a_certificate_is_for_the_name_that_people_type(
    url: str, names: list[x509.GeneralName], fits: bool
) -> None:
    given = {"web_host": "0.0.0.0", "web_base_url": url, "web_certificate": fake.pair(90, *names)}
    if fits:
        fake.settings(given)
        return
    with pytest.raises(DeployError, match=r"certificate is not for .*, the name in web_base_url"):
        fake.settings(given)


@pytest.mark.parametrize(("days", "told"), [(29, True), (31, False)])
def test_the_run_says_when_a_certificate_ends_soon(
    days: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tasks.lib.progress.print_at_end", lambda words, **_: said.append(words))
    fake.plan(fake.settings({"web_host": "0.0.0.0", "web_certificate": fake.pair(days)}))
    assert any("certificate ends in 2" in sentence for sentence in said) is told


def test_a_lock_of_other_requirements_is_refused_before_the_first_change() -> None:
    lock = fake.extra_lock(["boto3>=1"])
    settings = {"airflow_extra_requirements_lock": lock}
    assert fake.plan(fake.settings({**settings, "airflow_extra_requirements": ["boto3>=1"]}))
    with pytest.raises(DeployError, match="it is of other requirements"):
        fake.plan(fake.settings({**settings, "airflow_extra_requirements": ["boto3>=2"]}))


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("there", ["none", "same", "another"])
def test_a_lock_is_for_what_is_not_installed_yet(complete: bool, there: str) -> None:
    """The host has checksums of the mark of complete packages, and of their lock."""
    lock = fake.extra_lock(["boto3>=1"])
    given = {"airflow_extra_requirements": ["boto3>=1"], "airflow_extra_requirements_lock": lock}
    settings = fake.settings(given)
    content = {"same": lock.encode(), "another": b"another"}
    files = {f"{settings.venv}/.complete": b""} if complete else {}
    files |= {EXTRA_LOCK: content[there]} if there in content else {}
    lines = (f"{hashlib.sha256(text).hexdigest()}  {path}" for path, text in files.items())
    responses = {f"sha256sum {settings.venv}": "\n".join(lines)}
    if complete and there != "same":
        with pytest.raises(DeployError, match="has the same requirements already"):
            fake.planned(venv.install, responses, settings=settings)
    else:
        assert fake.planned(venv.install, responses, settings=settings)


@pytest.mark.parametrize(
    "line", ["--index-url https://pypi.example", "-r /etc/passwd", "boto3", "a==1\r", "./here"]
)
def test_a_lock_has_no_options_and_nothing_without_a_version(line: str) -> None:
    with pytest.raises(DeployError, match="airflow_extra_requirements_lock"):
        fake.settings({"airflow_extra_requirements_lock": f"# For a\n{line}\n"})
