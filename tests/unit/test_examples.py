"""The example inventories: each loads, has settings that work together, and keeps its secrets."""

from __future__ import annotations

import ast
import re
import runpy
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tasks import layout
from tasks.layout import ROOT
from tasks.lib import members
from tasks.settings import Settings
from tests.e2e.examples import example as example_of
from tests.unit import fake

EXAMPLES = sorted((ROOT / "inventories/examples").glob("*.py"))
# Files that the examples read from the home of the person who deploys.
CERTIFICATES = ("airflow.example.com.pem", "our-ca.pem")
PAIR = fake.pair(90, x509.DNSName("airflow.example.com"))


# The tests that deploy each example, with the names and addresses of the sandbox.
STORIES = {
    "claims": "dag_sources/test_dag_sources.py",
    "dags_folder": "dag_sources/test_dag_sources.py",
    "existing_cluster": "existing/test_existing.py",
    "existing_database": "external_database/test_external_database.py",
    "git": "dag_sources/test_dag_sources.py",
    "image_dags": "dag_sources/test_dag_sources.py",
    "objects": "logs/test_logs.py",
    "openid_connect": "logins/test_oidc.py",
    "own_image": "image/test_image.py",
    "pod_operator": "pods/test_pods.py",
    "pods": "pods/test_pods.py",
    "prometheus": "settings/test_metrics.py",
    "registry": "image/test_image.py",
    "s3_logs": "logs/test_logs.py",
    "several_hosts": "several.py",
    "ssh": "image/test_image.py",
    "users": "logins/test_passwords.py",
    "web_page": "main/test_more_settings.py",
    "web_tls": "web/test_web.py",
}
NOT_DEPLOYED = {
    "k3s": "the sandbox has no k3s, which comes as a program of its own and not as a Go module",
    "offline": "where downloads are out of reach, the sandbox's inventory names a folder like this"
    " in every story, with the crictl that can be built from Go modules",
}


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    """One inventory after the other."""
    path: Path = request.param
    return path


@pytest.fixture
def given(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home with the files that the example reads, and its variables; returns the variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "hello.py").write_text("# a DAG\n")
    for name in CERTIFICATES:
        (tmp_path / name).write_text(PAIR["certificate"])
    names = re.findall(r'os\.environ\["(\w+)"\]', example.read_text())
    values = {name: secrets.token_hex(8) for name in names}
    if "AIRFLOW_TLS_KEY" in values:
        values["AIRFLOW_TLS_KEY"] = PAIR["key"]
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def data(path: Path) -> dict[str, Any]:
    """The data of an inventory's only host, or of the first of several that are one Airflow.

    Not by pyinfra's command line: to import it replaces threads by gevent's, which pytest-xdist
    does not survive.
    """
    groups = runpy.run_path(str(path))
    if several := groups.get(members.GROUP):
        assert "hosts" not in groups and len(several) > 1
        assert all(found == several[0][1] for _, found in several)
        return dict(several[0][1])
    ((_, found),) = groups["hosts"]
    return dict(found)


def test_deploys(example: Path, given: dict[str, str]) -> None:
    chosen = data(example)
    groups = runpy.run_path(str(example))
    several = members.GROUP in groups
    if there := groups.get("database"):
        ((name, its_own),) = there
        assert there == groups["cluster"]
        settings = fake.several_beside_both(0, chosen, its_own)
        plan = fake.plan(fake.with_both(its_own))
        for said in ("Give both roles their passwords", "Wait for minikube"):
            assert plan.named(said), name
    else:
        settings = fake.several(0, chosen) if several else fake.settings(chosen)
    plan = fake.plan(settings)
    started = "Run Airflow, one host after the other" if several else "Run airflow-scheduler"
    assert any(started in name for name in plan.names)
    commands = [command for each in plan.operations for command in each.commands]
    shown = [*plan.names, *plan.facts, *commands, *plan.uploads.values()]
    for name, value in given.items():
        # Of a key in several lines each would do harm.
        needles = [line for line in value.splitlines() if len(line) > 10 and "---" not in line]
        assert needles and any(needle in str(chosen) for needle in needles), f"{name} is not used"
        assert not [text for text in shown for needle in needles if needle in text], name


def test_is_documented(example: Path) -> None:
    text = example.read_text()
    assert re.match(r'"""[A-Z].*\."""\n', text), "begin with one sentence in one line"
    assert text.count("            # ") >= 2, "explain the settings"


def test_a_story_deploys_each_example_or_the_reason_is_known() -> None:
    found = {}
    stories = ROOT / "tests/e2e"
    for path in stories.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name("example"), args=[ast.Constant(str(name)), *_]):
                    found[name] = str(path.relative_to(stories))
    assert found == STORIES
    names = [path.stem for path in EXAMPLES]
    assert sorted([*STORIES, *NOT_DEPLOYED]) == names


def test_a_story_finds_the_names_that_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    assert example_of("dags_folder", home=tmp_path)["dags_local_folder"] == f"{tmp_path}/dags"
    page = example_of("web_page", {"airflow.example.com": "10.0.0.7"})
    assert page["web_base_url"] == "https://10.0.0.7" and "ssh_user" not in page
    with pytest.raises(AssertionError, match=r"web_page.py does not have 10\.9\.9\.9"):
        example_of("web_page", {"10.9.9.9": "10.0.0.7"})


def test_the_example_of_a_firewall_is_one(tmp_path: Path) -> None:
    """In a network of its own; a second time changes nothing."""
    rules = ROOT / "inventories/examples/nftables.conf"
    twice = 'nft -c -f "$1" && nft -f "$1" && nft -f "$1" && nft list ruleset'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", "-c", twice, "sh", rules],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("chain input") == 1 and "policy drop" in done.stdout
    # Those of Kubernetes stay.
    assert "flush" not in re.sub("#.*", "", rules.read_text())
    defaults = Settings.from_data({})
    for port in (defaults.web.https_port, defaults.execution_api.port):
        assert re.search(rf"^define .*\b{port}\b", rules.read_text(), re.M)
    # Those of nginx and behind it, of which users of the host have a number.
    (on_host,) = re.findall(r"^define on_host = {(.*)}", rules.read_text(), re.M)
    assert {int(each) for each in on_host.split(",")} == {
        layout.API_SERVER_PORT,
        defaults.web.https_port,
        defaults.web.port,
        defaults.execution_api.port,
    }
