"""Two hosts from one inventory, their database and their cluster; one leaves and joins again."""

from __future__ import annotations

import json

from tasks.layout import CLUSTER_KUBECONFIG, DATABASE_LOGINS
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, ends_well
from tests.e2e.servers import GitServer
from tests.e2e.several import (
    DAG,
    NAMESPACE,
    OWNER,
    Deploying,
    active_one,
    is_healthy,
    shell_of,
    waiting_runs,
)
from tests.e2e.support import REMOVAL, SLACK, Airflow, evidence_folder
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

MANY = 40  # tasks at once: more than a scheduler's own 32
MANY_DAG = f"""
from airflow.sdk import dag, task


@dag(dag_id="e2e_many", schedule=None, catchup=False, max_active_tasks={MANY})
def many():
    @task(retries=0)
    def one(number):
        print(number)

    one.expand(number=list(range({MANY})))


many()
"""


def test_both_hosts_run_one_airflow(airflow: Airflow, hosts: tuple[Machine, Machine]) -> None:
    keys = "cd /etc/airflow && sha256sum secrets/*-* tls/ca-key.pem tls/pods-ca.pem airflow.cfg"
    files = f"{keys} pod_template.yaml dags.env"
    assert shell_of(hosts[0])(files) == shell_of(hosts[1])(files)
    question = "select count(distinct hostname) from job where job_type = 'SchedulerJob'"
    assert shell_of(hosts[0])(f"{OWNER} \"{question} and state = 'running'\"") == "2"
    active_one(hosts)  # and no other one
    for host in hosts:
        assert is_healthy(host)
        assert "a task ran as a pod" in shell_of(host)("airflow-smoke-test")
        timers = shell_of(host)("systemctl list-timers --all 'airflow-*' --no-legend")
        assert ("airflow-backup" in timers) is (host is hosts[0])


def test_the_next_deploy_changes_nothing(airflow: Airflow, deployed: Deploying) -> None:
    run = deployed()
    assert run.code == 0, run.output
    assert run.changed == []


# The cluster


def test_airflows_hosts_have_the_administrators_login_for_root_alone(
    airflow: Airflow, hosts: tuple[Machine, Machine], machine: Machine
) -> None:
    shown = f"stat -c '%U %a' {CLUSTER_KUBECONFIG}; sha256sum {CLUSTER_KUBECONFIG}"
    said = [shell_of(host)(shown) for host in hosts]
    assert said[0] == said[1] and said[0].startswith("root 600\n")
    backup = shell_of(hosts[0])("airflow-backup login").splitlines()[-1]
    held = shell_of(hosts[0])(f"tar -xOf {backup} host.tar | tar -t").splitlines()
    assert "etc/airflow/secrets/fernet-key" in held
    assert CLUSTER_KUBECONFIG.lstrip("/") not in held
    for host in hosts:
        there = "ls -d /var/lib/minikube /usr/local/bin/minikube 2>/dev/null || true"
        assert shell_of(host)(there) == ""


def test_the_clusters_certificates_are_renewed_without_airflow(
    airflow: Airflow, machine: Machine, shell: Shell
) -> None:
    timers = shell("systemctl list-timers 'airflow-*' --no-legend")
    assert "airflow-cluster-certificates.timer" in timers and len(timers.splitlines()) == 1
    shell("systemctl start airflow-cluster-certificates.service")
    assert shell("systemctl is-failed airflow-cluster-certificates.service || true") == "inactive"


def test_a_deploy_cures_a_stopped_cluster(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying, shell: Shell
) -> None:
    shell("systemctl stop minikube")
    shell_of(hosts[1])(f"rm {CLUSTER_KUBECONFIG}")
    run = deployed()
    assert run.code == 0, run.output
    assert "minikube | Wait for minikube (1 to 2 minutes the first time)" in run.changed
    assert deployed().changed == []
    Runs(airflow).whole(DAG, "hello")


# The database


def asked(host: Machine, database: Machine, sslmode: str) -> str:
    """How the database answers a host that may have the owner's login."""
    login = DATABASE_LOGINS["airflow"]
    place = f"host={database.address} dbname=airflow user=airflow sslmode={sslmode}"
    ask = f"PGPASSFILE={login} psql -XAtqwc 'select current_user' '{place}' 2>&1"
    return machines.run(host, ask, check=False).stdout.strip()


def test_the_database_lets_in_airflows_hosts_alone(
    airflow: Airflow, hosts: tuple[Machine, Machine], database: Machine, machine: Machine
) -> None:
    for host in hosts:
        trusted = "verify-full sslrootcert=/etc/airflow/database-authority.pem"
        assert asked(host, database, trusted) == "airflow"
        said = asked(host, database, "disable")
        assert f'no pg_hba.conf entry for host "{host.address}"' in said and "no encryption" in said
    assert f'no pg_hba.conf entry for host "{machine.address}"' in asked(
        machine, database, "require"
    )
    # A host that only serves others has nothing of Airflow.
    there = shell_of(database)
    assert there("ls -d /opt/airflow /usr/local/bin/airflow* /etc/nginx 2>/dev/null || true") == ""
    assert there("getent passwd airflow || true") == ""


def test_a_deploy_cures_a_stopped_database_and_replaces_a_lost_password(
    airflow: Airflow, hosts: tuple[Machine, Machine], database: Machine, deployed: Deploying
) -> None:
    there, login = shell_of(database), DATABASE_LOGINS["airflow-dags"]
    before = there(f"cat {login}")
    there(f"systemctl stop postgresql@*; rm {login}")
    run = deployed()
    assert run.code == 0, run.output
    after = there(f"cat {login}")
    assert after != before and after.rpartition(":")[2] not in run.output
    for host in hosts:
        assert shell_of(host)(f"cat {login}") == after
        wait_for(lambda host=host: is_healthy(host), 60 + SLACK, "it is healthy")  # type: ignore[misc]
    assert deployed().changed == []
    Runs(airflow).whole(DAG, "hello")


def test_settings_of_the_database_are_those_of_its_host(
    airflow: Airflow, database: Machine, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    run = deployed(postgres_config={"work_mem": "9MB"})
    assert run.code != 0
    assert f"postgres_config is a setting of {database.name}, which has the database" in run.output
    given = {"of_database": {"postgres_config": {"work_mem": "9MB"}, "metrics_port": 9187}}
    run = deployed(**given)
    assert run.code == 0, run.output
    assert shell_of(hosts[1])(f"{OWNER} 'show work_mem'") == "9MB"
    figures = shell_of(hosts[0])(f"curl -fsS http://{database.address}:9187/metrics")
    assert "pg_up 1" in figures and "airflow_" in figures
    assert deployed(**given).changed == []
    run = deployed()
    assert run.code == 0, run.output


def test_a_backup_of_the_database_comes_back(
    airflow: Airflow, hosts: tuple[Machine, Machine]
) -> None:
    first, second = (shell_of(host) for host in hosts)
    first("airflow variables set e2e_kept before")
    made = first("airflow-backup kept").splitlines()[-1]
    first("airflow variables set e2e_kept after")
    second("systemctl stop airflow.target")
    wait_for(
        lambda: machines.run(hosts[0], f"airflow-restore {made}", check=False).returncode == 0,
        180 + SLACK,
        "the other host's services count as stopped",
        every=10,
    )
    assert first("airflow variables get e2e_kept") == "before"
    second("systemctl start airflow.target")
    for host in hosts:
        wait_for(lambda host=host: is_healthy(host), 120 + SLACK, "it is healthy")  # type: ignore[misc]


def test_pods_know_both_hosts_by_one_name(
    airflow: Airflow, hosts: tuple[Machine, Machine], shell: Shell
) -> None:
    template = shell_of(hosts[0])("cat /etc/airflow/pod_template.yaml")
    assert f"https://airflow-api.{NAMESPACE}-control.svc:8081/execution/" in template
    slices = shell(f"kubectl -n {NAMESPACE}-control get endpointslices -o yaml")
    assert all(host.address in slices for host in hosts)


def test_both_schedulers_start_tasks(
    airflow: Airflow, hosts: tuple[Machine, Machine], git: GitServer
) -> None:
    git.push("team", {"e2e_many.py": MANY_DAG})
    first, second = (shell_of(host) for host in hosts)

    def many() -> tuple[dict[str, int], float]:
        """How many tasks the scheduler of each host started, and how many ended in a minute."""
        run = airflow.trigger("e2e_many")
        ends_well(airflow, "e2e_many", run, 600 + SLACK)
        of_run = f"task_instance t where t.run_id = '{run}'"
        hostname = "select j.hostname from job j where j.id = t.queued_by_job_id"
        by = f"select split_part(({hostname}), '.', 1), count(*) from {of_run} group by 1"
        took = f"select extract(epoch from max(end_date) - min(scheduled_dttm)) from {of_run}"
        counts = dict(line.split("|") for line in first(f'{OWNER} "{by}"').splitlines())
        seconds = float(first(f'{OWNER} "{took}"'))
        return {name: int(count) for name, count in counts.items()}, MANY * 60 / seconds

    shared, rate_of_two = many()
    assert sum(shared.values()) == MANY
    assert shared.keys() == {host.name for host in hosts}, shared
    second("systemctl stop airflow-scheduler")
    try:
        alone, rate_of_one = many()
    finally:
        second("systemctl start airflow-scheduler")
    assert alone == {hosts[0].name: MANY}
    # How much faster two are depends on the machine: a figure, not a test.
    if folder := evidence_folder():
        rates = {"tasks a minute with one scheduler": rate_of_one, "with two": rate_of_two}
        (folder / "schedulers.json").write_text(json.dumps({**rates, "started by": shared}))
    for host in hosts:
        wait_for(lambda host=host: is_healthy(host), 60 + SLACK, "it is healthy")  # type: ignore[misc]


# Hosts leave and join


def test_a_host_that_leaves_takes_nothing_of_the_others(
    airflow: Airflow,
    hosts: tuple[Machine, Machine],
    database: Machine,
    deployed: Deploying,
    shell: Shell,
) -> None:
    first, second = hosts
    run = deployed("--limit", second.name, what=REMOVAL)
    assert run.code == 0, run.output
    assert shell_of(second)("ls -d /etc/airflow /opt/airflow 2>/dev/null || true") == ""
    assert shell(f"kubectl get namespace {NAMESPACE} -o name") == f"namespace/{NAMESPACE}"
    Runs(airflow).whole(DAG, "hello")
    # Pods find the one that is left by the same name.
    alone = {"names": (first.name,)}
    run = deployed(**alone)
    assert run.code == 0, run.output
    assert deployed(**alone).changed == []
    Runs(airflow).whole(DAG, "hello")
    assert is_healthy(first)
    # The database knows only the host that is left.
    rules = shell_of(database)("cat /etc/postgresql/*/main/pg_hba.conf")
    assert f" {first.address}/32 " in rules and second.address not in rules


def test_a_host_that_joins_gets_what_it_needs(
    airflow: Airflow, hosts: tuple[Machine, Machine], deployed: Deploying
) -> None:
    # It can't be the first one, since its keys would be new.
    run = deployed(names=(hosts[1].name, hosts[0].name))
    assert run.code != 0 and "Of several hosts, name one first that has it" in run.output
    with waiting_runs(airflow):
        run = deployed()
        assert run.code == 0, run.output
    assert deployed().changed == []
    for host in hosts:
        assert is_healthy(host)
        assert "a task ran as a pod" in shell_of(host)("airflow-smoke-test")


def test_the_removal_of_all_takes_what_they_share(
    airflow: Airflow, deployed: Deploying, database: Machine
) -> None:
    there = shell_of(database)
    databases = "cd /; runuser -u postgres -- psql -XAtqc 'select datname from pg_database'"
    run = deployed("--limit", database.name, what=REMOVAL)
    assert run.code != 0 and "the removal would take it from there" in run.output
    assert "airflow" in there(databases).splitlines()
    run = deployed(what=REMOVAL)
    assert run.code == 0, run.output
    folders = (
        "/etc/airflow /var/lib/airflow-deploy /usr/local/lib/airflow /etc/postgresql/*/main"
        " /var/lib/minikube /etc/kubernetes /root/.minikube /root/.kube /usr/local/bin/kubectl"
        " /etc/systemd/system/airflow* /etc/systemd/system/minikube.service"
    )
    assert there(f"ls -d {folders} 2>/dev/null || true") == ""
    assert there("pgrep -x 'kubelet|etcd|kube-apiserver' || true") == ""
    listed = "dpkg-query -Wf '${db:Status-Status} ${Package}\\n' 'postgresql-[0-9]*' 2>/dev/null"
    assert there(f"{listed} | grep ^installed || true") == ""
