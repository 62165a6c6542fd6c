"""Turn a bare Debian host into a working Airflow whose every task is a pod.

pyinfra inventories/local.py deploy.py
"""

import pyinfra

from tasks import preflight
from tasks.airflow import config, database, objects, secrets, services, timers, venv
from tasks.cluster import access, certificates, minikube
from tasks.day2 import cleanup, smoke_test, upgrade
from tasks.host import address, metrics, nginx, postgres, serving, system
from tasks.lib import connection, groups, progress, pyinfra_cache, questions, shell, terminal
from tasks.settings import HostSettings
from tasks.worker import dags, image, policy, registry


def deploy(settings: HostSettings) -> None:
    """Queue all operations of the deploy, in their order."""
    # Prepare. An Airflow that runs is not touched. Packages of the inventory may be impossible to
    # install, so the virtual environment comes before the cluster and the database. But logins to a
    # database elsewhere come with the users: it may refuse the earlier ones by now. The cluster
    # starts in the background, while the image is built.
    preflight.database.prepare(settings)
    system.install(settings)
    venv.install(settings)
    minikube.start(settings)
    nginx.certify(settings)
    postgres.configure(settings)
    secrets.create(settings)
    image.build(settings)

    # Connect. The cluster must run now: it gives the host its kubeconfig, and holds the image
    # before anything asks for it.
    minikube.wait(settings)
    policy.prepare(settings)
    access.grant(settings)
    image.load(settings)

    # Switch. From here on Airflow changes. If its version changes, the guard stops it and makes a
    # backup first, and services.run starts it again. Objects need the database's schema, and
    # services need both. nginx must fit the version that it serves.
    with upgrade.guard(settings):
        nginx.configure(settings)
        config.write(settings)
        policy.admit(settings)
        database.migrate(settings)
        objects.sync(settings)
        dags.publish(settings)
        services.run(settings)

    # Operate. These look after an Airflow that runs. The virtual address comes only to a host whose
    # page answers.
    address.run(settings)
    metrics.run(settings)
    timers.run(settings)

    # Verify, and tidy up only when the new state is known to work.
    smoke_test.run(settings)
    cleanup.run(settings)


def serve(settings: HostSettings) -> None:
    """Queue the operations of a host that has the database or the cluster of others, or both."""
    serving.prepare(settings)
    if "cluster" in settings.serves:
        minikube.start(settings)  # in the background, as on a host that is alone
        registry.let_node_trust(settings)
    if "database" in settings.serves:
        postgres.configure(settings)
        metrics.run(settings)
        serving.note()
    if "cluster" in settings.serves:
        minikube.wait(settings)
        certificates.keep()


def deploy_role(settings: HostSettings) -> None:
    """Queue the operations of a host by its role.

    A host that serves Airflow's hosts is ready before they begin.
    """
    if settings.serves:
        serve(settings)
    if settings.database_host or settings.cluster_host:
        serving.wait()
    if not settings.serves:
        deploy(settings)


if pyinfra.is_cli:
    pyinfra_cache.use()
    terminal.show_only_text()
    progress.show()
    connection.disable_nagle()
    connection.use_private_folder()
    shell.use({})
    groups.end_with_the_first_failure()
    groups.check()
    completed = preflight.check(groups.settings())
    shell.use(completed.environment)
    questions.ask_together(pyinfra.state)
    deploy_role(completed)
