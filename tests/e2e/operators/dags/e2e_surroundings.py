"""The variables and options of the inventory, where the DAG is read and where its tasks run."""

import mmap
import os
from pathlib import Path

from airflow.configuration import conf
from airflow.sdk import Variable, dag, task

WHERE = os.environ["DEPLOY_ENV"]  # without it the file would be an import error
# So it would without the machine's memory, which psutil reads, and without pages for code that is
# compiled while it runs, as numba, Node and Java do.
MEMORY = Path("/proc/meminfo").read_text()
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


@dag(schedule=None, catchup=False, tags=[WHERE], description=os.environ["E2E_QUOTES"])
def e2e_surroundings() -> None:
    """Both tasks should say the same, and so does the web page."""

    def tell() -> None:
        print("runs in", WHERE, "with", repr(os.environ["E2E_QUOTES"]))
        print("image", os.environ["AIRFLOW_WORKER_IMAGE"], "of pods")
        print("zone", conf.get("core", "default_timezone"), "code", Variable.get("locker_code"))

    task(task_id="in_a_pod")(tell)()
    task(task_id="on_the_host", executor="LocalExecutor")(tell)()


e2e_surroundings()
