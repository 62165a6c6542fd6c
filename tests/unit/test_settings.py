"""Settings: what is accepted, what is refused with which words, and what is derived."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyinfra.api import DeployError

from tasks.settings import Settings
from tasks.worker import image
from tests.unit import fake
from tests.unit.fake import DEFAULTS, EXISTING, PAIR

PUBLIC = {"airflow_web_host": "0.0.0.0"}
BUNDLES = {"airflow_git_bundles": {"team": {"url": "https://git.example/dags.git"}}}


def refusal(given: dict[str, Any]) -> str:
    """What the deploy says to these settings, which are wrong."""
    with pytest.raises(DeployError) as error:
        Settings.from_data(given)
    return str(error.value)


def test_defaults_are_valid() -> None:
    # pydantic does not look at defaults; here they go through the same door as given values.
    defaults = DEFAULTS.model_dump()
    assert Settings.from_data(defaults) == DEFAULTS


def test_every_setting_is_described_by_a_sentence() -> None:
    said = {name: field.description or "" for name, field in Settings.model_fields.items()}
    assert not [
        name for name, text in said.items() if not re.fullmatch(r"(?:[A-Z]|minikube).+\.", text)
    ]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        DEFAULTS.airflow_web_port = 8081


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("airflow_web_prot", "airflow_web_port"),
        ("minikube_sha", "minikube_sha256"),
        ("worker_packages", "worker_apt_packages"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_right_one(key: str, near: str) -> None:
    assert refusal({key: "x"}) == f"{key} is not a setting; did you mean {near}?"


def test_a_strange_setting_points_to_the_readme() -> None:
    sentence = refusal({"xyzzy": 1})
    assert "xyzzy is not a setting" in sentence and "README.md" in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("airflow_web_port", "8080"),
        ("airflow_web_port", True),
        ("airflow_web_port", 8080.0),
        ("airflow_smoke_test", 1),
        ("airflow_smoke_test", "true"),
        ("airflow_version", 3.3),
        ("airflow_base_url", 1),
        ("airflow_extra_requirements", "boto3"),
        ("airflow_config", {"core": "x"}),
        ("postgres_config", {"max_connections": 200}),
        ("postgres_version", "15"),
        ("minikube_start_args", [1]),
    ],
)
def test_a_wrong_type_is_refused_with_key_and_value(key: str, value: Any) -> None:
    sentence = refusal({key: value})
    assert sentence.startswith(key) and "should be a valid" in sentence
    innermost = next(iter(value.values())) if isinstance(value, dict) else value
    innermost = innermost[0] if isinstance(innermost, list) else innermost
    assert sentence.endswith(f"not {innermost!r}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("airflow_version", "3.3"),
        ("kubernetes_version", "v1.33.1"),
        ("airflow_web_port", 0),
        ("airflow_web_port", 65536),
        ("airflow_uid", 0),
        ("airflow_admin_user", "o'hara"),
        ("kubectl_sha256", "5de4e9f2"),
        ("minikube_sha256", "A" * 64),
        ("crictl_sha256", "a" * 64 + "\n"),
        ("kubernetes_namespace", "Airflow"),
        ("kubernetes_namespace", "a" * 64),
        ("kubernetes_provider", "k3s"),
        ("kubernetes_kubeconfig", "cluster.yaml"),
        ("offline_dir", "offline"),
        ("offline_dir", "/srv/off line"),
        ("offline_dir", "/srv/it's"),
        ("worker_apt_packages", ["jq; reboot"]),
        ("postgres_version", 13),
        ("worker_image", "image name"),
        ("airflow_web_host", "$(reboot)"),
        ("airflow_base_url", "airflow.example"),
        ("airflow_base_url", 'https://airflow.example/";'),
        ("airflow_host_names", ["airflow example"]),
        ("airflow_logins_per_minute", 0),
        ("airflow_web_certificate", {"certificate": "/etc/ssl/own.pem", "key": "hidden"}),
        ("kubernetes_namespace", "123"),
    ],
)
def test_an_impossible_value_is_refused(key: str, value: Any) -> None:
    sentence = refusal({**EXISTING, key: value} if key == "kubernetes_kubeconfig" else {key: value})
    assert sentence.startswith(key) and "\n" not in sentence


def test_a_version_without_lock_file_is_told_the_locked_ones() -> None:
    sentence = refusal({"airflow_version": "9.9.9"})
    assert "no lock file for 9.9.9" in sentence
    assert sentence.endswith("3.3.2")


@pytest.mark.parametrize("missing", sorted(EXISTING.keys() - {"kubernetes_provider"}))
def test_an_existing_cluster_needs_all_that_is_known_of_it(missing: str) -> None:
    given = {key: value for key, value in EXISTING.items() if key != missing}
    sentence = refusal(given)
    assert sentence.startswith(f"{missing}: ") and "write" in sentence


@pytest.mark.parametrize("key", ["kubernetes_kubeconfig", "kubernetes_context"])
def test_minikube_takes_no_kubeconfig(key: str) -> None:
    sentence = refusal({key: "/root/cluster.yaml"})
    assert key in sentence and 'kubernetes_provider = "existing"' in sentence


@pytest.mark.parametrize(
    ("given", "key", "cure"),
    [
        ({"airflow_logs": "s3"}, "airflow_logs_s3", "write its folder and connection"),
        ({"airflow_logs": "volume_claim"}, "airflow_logs_claim", "write its claim"),
        (
            {"airflow_logs_s3": {"folder": "s3://logs", "connection": "s3"}},
            "airflow_logs_s3",
            'write "s3" there',
        ),
        ({"minikube_driver": "docker"}, "airflow_dags_source", 'write "image", "git"'),
        ({"airflow_dags_source": "git"}, "airflow_git_bundles", "write its url"),
        (
            {"airflow_dags_source": "git", **BUNDLES, "airflow_dags_from": "tests/e2e/dags"},
            "airflow_dags_from",
            "leave it out",
        ),
        ({"airflow_dags_source": "image"}, "airflow_dags_from", "write the folder"),
        ({"airflow_dags_from": "/no/such/folder"}, "airflow_dags_from", "write the path of one"),
        (
            {"airflow_git_bundles": {"deploy": {"url": "https://git.example/x.git"}}},
            "airflow_git_bundles: deploy",
            "choose another name",
        ),
        (
            {
                "airflow_dags_source": "volume_claim",
                "airflow_dags_claim": {"name": "dags", "host_path": "/home/ada/dags"},
            },
            "airflow_dags_claim",
            "choose a place elsewhere",
        ),
        (
            {"worker_image": "a/b:1", "worker_registry": {"repository": "r.example/b"}},
            "worker_image and worker_registry",
            "leave one out",
        ),
    ],
)
def test_settings_that_exclude_each_other(given: dict[str, Any], key: str, cure: str) -> None:
    sentence = refusal(given)
    assert sentence.startswith(key) and cure in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (
            {"airflow_connections": {"api": {"conn_type": "http", "password": ["s3cret"]}}},
            "airflow_connections.api.password",
        ),
        ({"airflow_variables": {"key": ["s3cret"]}}, "airflow_variables.key"),
        (
            {"airflow_git_bundles": {"team": {"url": "https://me:s3cret@git.example/x.git"}}},
            "airflow_git_bundles: the url of team",
        ),
        (
            {"airflow_git_bundles": {"team": {"url": "https://s3cret @git.example/x.git"}}},
            "airflow_git_bundles.team.url",
        ),
        (
            {"worker_registry": {"repository": "r.example/b", "password": ["s3cret"]}},
            "worker_registry.password",
        ),
        (
            {"airflow_web_certificate": {**PAIR, "key": ["s3cret"]}},
            "airflow_web_certificate.key",
        ),
        (
            {"airflow_web_certificate": {**PAIR, "key": "s3cret"}, **PUBLIC},
            "airflow_web_certificate: key can't be read",
        ),
    ],
)
def test_what_may_be_secret_is_not_repeated(given: dict[str, Any], key: str) -> None:
    sentence = refusal(given)
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
    sentence = refusal({"worker_registry": registry})
    assert "worker_registry" in sentence and said in sentence
    assert "hidden" not in sentence and "17" not in sentence


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1"])
def test_pods_do_not_reach_the_host_under_their_own_address(address: str) -> None:
    sentence = refusal({"airflow_address_for_pods": address})
    assert sentence.startswith("airflow_address_for_pods") and "write" in sentence


def test_an_existing_cluster_has_its_addons_already() -> None:
    assert "leave it out" in refusal({**EXISTING, "minikube_addons": ["dashboard"]})


def test_all_mistakes_are_reported_at_once() -> None:
    wrong = {
        "airflow_web_prot": 1,
        "airflow_uid": "50000",
        "kubectl_sha256": "",
        "offline_dir": ".",
    }
    lines = refusal(wrong).splitlines()
    assert sorted(line.replace(":", " ").split()[0] for line in lines) == sorted(wrong)


def test_all_that_an_existing_cluster_lacks_is_reported_at_once() -> None:
    sentence = refusal({"kubernetes_provider": "existing"})
    assert all(key in sentence for key in EXISTING.keys() - {"airflow_git_bundles"})


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
    assert refusal({"_sodu": True}).startswith("_sodu is not a setting")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://$(HOST_IP):8081/execution/"),
        ({"airflow_pods_port": 9443}, "https://$(HOST_IP):9443/execution/"),
        (fake.ANOTHER_DRIVER, "https://host.minikube.internal:8081/execution/"),
        ({"airflow_address_for_pods": "192.0.2.7"}, "https://192.0.2.7:8081/execution/"),
        ({"airflow_address_for_pods": "host.example"}, "https://host.example:8081/execution/"),
        # RFC 3986, 3.2.2: an IPv6 address stands between brackets.
        ({"airflow_address_for_pods": "2001:db8::7"}, "https://[2001:db8::7]:8081/execution/"),
        (EXISTING, "https://192.0.2.7:8081/execution/"),
    ],
)
def test_address_of_the_execution_api(given: dict[str, Any], url: str) -> None:
    assert Settings.from_data(given).execution_api_url == url


@pytest.mark.parametrize(
    ("release", "given", "version"),
    [("bookworm", None, 15), ("trixie", None, 17), ("trixie", 16, 16)],
)
def test_postgres_version_is_the_releases_unless_given(
    release: str, given: int | None, version: int
) -> None:
    settings = Settings.from_data({"postgres_version": given})
    assert settings.on_release(release).postgres_version == version


# A second valid value for each setting.
OTHER: dict[str, Any] = {
    "airflow_version": "3.3.3",
    "airflow_extra_requirements": ["boto3==1.40.0"],
    "airflow_config": {"core": {"parallelism": "4"}},
    "airflow_executor": "LocalExecutor,KubernetesExecutor",
    "airflow_web_host": "0.0.0.0",
    "airflow_web_port": 8090,
    "airflow_https_port": 8443,
    "airflow_pods_port": 8444,
    "airflow_metrics_port": 9187,
    "airflow_base_url": "https://airflow.example",
    "airflow_web_certificate": PAIR,
    "airflow_host_names": ["airflow.example"],
    "airflow_logins_per_minute": 5,
    "airflow_address_for_pods": "192.0.2.8",
    "airflow_admin_user": "ada",
    "airflow_uid": 50001,
    "airflow_examples": False,
    "airflow_smoke_test": False,
    "airflow_dags_source": "git",
    "airflow_dags_from": "files/opt/airflow/dags",
    "airflow_dags_claim": {"name": "dags", "host_path": "/srv/dags", "size": "1Gi"},
    "airflow_git_bundles": {"team": {"url": "https://git.example/dags.git", "branch": "other"}},
    "airflow_logs": "s3",
    "airflow_logs_claim": {"name": "logs", "host_path": "/srv/logs", "subpath": "tasks"},
    "airflow_logs_s3": {"folder": "s3://logs/other", "connection": "s3"},
    "airflow_log_days": 0,
    "airflow_history_days": 0,
    "airflow_connections": {"api": {"conn_type": "http", "host": "api.example"}},
    "airflow_variables": {"colour": "green"},
    "airflow_pools": {"narrow": {"slots": 1}},
    "airflow_backups_kept": 30,
    "postgres_version": 16,
    "postgres_config": {"work_mem": "16MB"},
    "kubernetes_provider": "existing",
    "kubernetes_kubeconfig": "/root/other.yaml",
    "kubernetes_context": "other",
    "kubernetes_namespace": "other",
    "kubernetes_more_namespaces": ["team"],
    "kubernetes_objects": [
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    ],
    "kubernetes_network_policy": True,
    "kubernetes_network_allowed": ["192.0.2.0/24"],
    "kubernetes_pod_operator": True,
    "kubernetes_version": "1.33.2",
    "kubectl_sha256": "0" * 64,
    "minikube_version": "1.37.0",
    "minikube_sha256": "0" * 64,
    "minikube_driver": "docker",
    "minikube_start_args": ["--cpus=2"],
    "minikube_addons": ["dashboard"],
    "crictl_version": "1.33.1",
    "crictl_sha256": "0" * 64,
    "worker_image": "registry.example/other:2",
    "worker_apt_packages": ["jq"],
    "worker_resources": {},
    "worker_registry": {"repository": "registry.example/airflow"},
    "worker_images_kept": 1,
    "worker_env": {"COLOUR": "green"},
    "worker_pod": {"spec": {"nodeSelector": {"disk": "ssd"}}},
    "worker_pod_template": "files/own.yaml",
    "worker_delete_finished_pods": False,
    "worker_failed_pods_minutes": 0,
    "offline_dir": "/srv/offline",
}
S3 = {"folder": "s3://logs", "connection": "s3"}
# What these change has no meaning alone: what they change then.
BASES: dict[str, dict[str, Any]] = {
    "airflow_dags_source": {"airflow_git_bundles": {"team": {"url": "https://git.example/x"}}},
    "airflow_dags_claim": {
        "airflow_dags_source": "volume_claim",
        "airflow_dags_claim": {"name": "other", "host_path": "/srv/dags"},
    },
    "airflow_dags_from": {"airflow_dags_source": "image", "airflow_dags_from": "tests/e2e/dags"},
    "airflow_logs": {"airflow_logs_s3": S3},
    "airflow_logs_claim": {
        "airflow_logs": "volume_claim",
        "airflow_logs_claim": {"name": "other", "host_path": "/srv/logs"},
    },
    "airflow_logs_s3": {"airflow_logs": "s3", "airflow_logs_s3": S3},
    "airflow_web_certificate": {**PUBLIC, "airflow_web_certificate": fake.pair()},
    "minikube_driver": {**fake.ANOTHER_DRIVER, "minikube_driver": "none"},
    "kubernetes_provider": {**EXISTING, "kubernetes_provider": "minikube"},
    "kubernetes_kubeconfig": EXISTING,
    "kubernetes_context": EXISTING,
    "kubernetes_network_allowed": {"kubernetes_network_policy": True},
}
IN_VENV = {"airflow_version", "airflow_extra_requirements"}
IN_IMAGE = IN_VENV | {
    "airflow_dags_from",
    "airflow_uid",
    "worker_apt_packages",
    "worker_image",
    "worker_registry",
}


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with lock files of two versions of Airflow instead of the repository's."""
    for version in ("3.3.2", "3.3.3"):
        (tmp_path / f"{version}.txt").write_text(f"apache-airflow=={version}\n")
    monkeypatch.setattr("tasks.settings.REQUIREMENTS", tmp_path)
    return tmp_path


def before_and_after(name: str) -> tuple[Settings, Settings]:
    """Settings as they are and with another value of one of them."""
    base = dict(BASES.get(name, {}))
    if name == "kubernetes_provider":
        del base["kubernetes_kubeconfig"]
        before, changed = base, {**EXISTING, name: OTHER[name]}
    elif name == "airflow_logs":
        before, changed = {}, {**base, name: OTHER[name]}
    else:
        before, changed = base, {**base, name: OTHER[name]}
    first, second = Settings.from_data(before), Settings.from_data(changed)
    assert getattr(first, name) != getattr(second, name)
    return first.on_release("bookworm"), second.on_release("bookworm")


def test_every_setting_has_another_value_to_try() -> None:
    assert OTHER.keys() == Settings.model_fields.keys()


def test_venv_and_image_are_named_by_what_goes_into_them_and_nothing_else(locks: Path) -> None:
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


def test_the_release_counts_when_it_becomes_known_later() -> None:
    bookworm = fake.settings()
    assert bookworm.venv_key != bookworm.on_release("trixie").venv_key


def test_a_given_image_is_taken_as_it_is() -> None:
    assert image.reference(fake.settings(EXISTING)) == EXISTING["worker_image"]


# What can't work together, and words of the sentence that says so.
CONFLICTS: list[tuple[dict[str, Any], str, str]] = [
    ({"airflow_metrics_port": 8080}, "airflow_metrics_port: 8080", "another one"),
    ({"airflow_pods_port": 8080}, "airflow_pods_port: 8080 is airflow_web_port", "another one"),
    ({**PUBLIC, "airflow_https_port": 8081}, "airflow_https_port: 8081", "another one"),
    ({"airflow_web_certificate": PAIR}, "airflow_web_certificate", "is to be at"),
    *(
        ({"airflow_web_certificate": {**PAIR, **wrong}, **PUBLIC}, "airflow_web_certificate", words)
        for wrong, words in (
            ({"key": fake.pair()["key"]}, "write those of one pair"),
            ({"certificate": "-----BEGIN CERTIFICATE-----\nx"}, "certificate can't be read"),
        )
    ),
    (
        {"worker_pod": {"spec": {"containers": [{"name": "sidecar"}]}}},
        "worker_pod",
        'write its name "base"',
    ),
    (
        {"worker_pod_template": "own.yaml", "worker_pod": {"metadata": {"labels": {"a": "b"}}}},
        "worker_pod",
        "leave one out",
    ),
    (
        {"worker_pod_template": "own.yaml", "worker_resources": {"limits": {"cpu": "1"}}},
        "worker_resources",
        "leave one out",
    ),
    ({"worker_env": {"HOST_IP": "192.0.2.7"}}, "worker_env", "choose another name"),
    (
        {"worker_delete_finished_pods": False, "worker_failed_pods_minutes": 0},
        "worker_failed_pods_minutes",
        "write another number",
    ),
    (
        {"kubernetes_more_namespaces": ["team", "airflow"]},
        "kubernetes_more_namespaces",
        "write each namespace once",
    ),
    (
        {
            "kubernetes_objects": [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry"}}
            ]
        },
        "kubernetes_objects",
        "make it on the host with kubectl",
    ),
    (
        {"kubernetes_network_allowed": ["192.0.2.0/24"]},
        "kubernetes_network_allowed",
        "kubernetes_network_policy",
    ),
    (
        {**EXISTING, "kubernetes_network_policy": True, "airflow_address_for_pods": "host.example"},
        "kubernetes_network_policy",
        "airflow_address_for_pods",
    ),
]


@pytest.mark.parametrize(("given", "key", "words"), CONFLICTS)
def test_what_can_not_work_together_is_refused(given: dict[str, Any], key: str, words: str) -> None:
    sentence = refusal(given)
    assert sentence.startswith(key) and words in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("worker_env", {"no name": "x"}),
        ("worker_env", {"COLOUR": 1}),
        ("worker_pod", {"spec": []}),
        ("worker_pod", {"metadata": {"labels": {"number": 1}}}),
        ("worker_pod", {"spec": {"containers": {"name": "base"}}}),
        ("kubernetes_objects", [{"apiVersion": "v1", "kind": "ConfigMap"}]),
        ("kubernetes_objects", [{"kind": "ConfigMap", "metadata": {"name": "x"}}]),
        ("kubernetes_more_namespaces", ["Team"]),
        ("kubernetes_network_allowed", ["10.0.0.1/8"]),
        ("worker_failed_pods_minutes", -1),
    ],
)
def test_a_part_of_the_wrong_shape_is_named(key: str, value: Any) -> None:
    sentence = refusal({key: value})
    assert sentence.startswith(key) and "\n" not in sentence
