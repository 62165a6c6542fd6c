"""Turn a bare Debian host into a working Airflow whose every task is a pod.

pyinfra inventories/local.py deploy.py
"""

from pyinfra import host

from tasks import (
    airflow,
    backup,
    connection,
    dags,
    git,
    image,
    kubernetes,
    metrics,
    minikube,
    objects,
    postgres,
    preflight,
    progress,
    proxy,
    rotation,
    services,
    smoke,
    system,
    timers,
)
from tasks.settings import Settings

progress.show()
connection.hasten()
settings = preflight.check(Settings.from_data(host.data.dict()))

system.prepare(settings)
minikube.begin(settings)
proxy.provide(settings)
postgres.provide(settings)
airflow.install(settings)
dags.bring(settings)
image.build(settings)
minikube.finish(settings)
kubernetes.connect(settings)
image.load(settings)
backup.provide(settings)
backup.begin(settings)
airflow.configure(settings)
objects.provide(settings)
dags.provide(settings)
git.prepare(settings)
services.run(settings)
timers.run(settings)
rotation.provide(settings)
metrics.provide(settings)
proxy.tell(settings)
backup.end(settings)
smoke.prove(settings)
image.prune(settings)
airflow.prune(settings)
git.ask(settings)
