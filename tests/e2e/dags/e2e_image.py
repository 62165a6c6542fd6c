"""Tasks that print what their image has, and one that runs until a test ends it; for the tests."""

import shutil
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from airflow.sdk import dag, task

GO_ON = Path("/opt/airflow/dags/e2e_go_on")


def imports(module: str) -> bool:
    """Whether a module is there; it is imported, since it may lack a library of Debian."""
    if find_spec(module) is None:
        return False
    import_module(module)
    return True


@dag(schedule=None, catchup=False)
def e2e_image() -> None:
    """Says whether the image has what the deploy was told to put there."""

    @task
    def look() -> None:
        names = ("e2e-licence", "gcc", "jq")
        programs = {name: shutil.which(name) is not None for name in names}
        modules = {"statsd": "statsd", "mysql": "MySQLdb", "ldap": "ldap"}
        found = programs | {name: imports(module) for name, module in modules.items()}
        print(", ".join(f"{name}: {is_there}" for name, is_there in found.items()))

    look()


@dag(schedule=None, catchup=False)
def e2e_patient() -> None:
    """One task that ends when the test says so."""

    @task
    def wait() -> None:
        end = time.monotonic() + 900
        while not GO_ON.exists() and Path(__file__).exists():
            if time.monotonic() > end:
                raise TimeoutError(f"{GO_ON} did not come")
            time.sleep(0.5)

    wait()


e2e_image()
e2e_patient()
