"""Sensors that wait in their pod, in one pod for each look, and in the triggerer."""

import time

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import PokeReturnValue, dag, get_current_context, task


def at_the_second_look() -> bool:
    """Not true at the first look."""
    return bool(get_current_context()["task_reschedule_count"])


def some_seconds_after_the_start() -> bool:
    """Not true at the first look."""
    return time.time() > get_current_context()["dag_run"].start_date.timestamp() + 20


@dag(schedule=None, catchup=False)
def e2e_sensors() -> None:
    """All of them end well."""
    PythonSensor(
        task_id="poke", python_callable=some_seconds_after_the_start, poke_interval=2, timeout=300
    )
    PythonSensor(
        task_id="reschedule",
        python_callable=at_the_second_look,
        mode="reschedule",
        poke_interval=10,
        timeout=300,
    )
    DateTimeSensorAsync(
        task_id="deferred", target_time="{{ dag_run.start_date + macros.timedelta(seconds=25) }}"
    )

    @task.sensor(poke_interval=1, timeout=300)
    def found() -> PokeReturnValue:
        return PokeReturnValue(is_done=some_seconds_after_the_start(), xcom_value="found it")

    @task
    def take(value: str) -> None:
        print("sensor", value)

    take(found())


e2e_sensors()
