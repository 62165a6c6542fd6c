"""Tasks that wait for a person, and a deadline that the run does not keep."""

import time
from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, dag, task
from e2e_team import missed


@dag(
    schedule=None,
    catchup=False,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=5),
        callback=AsyncCallback(missed, kwargs={"word": "größe"}),
    ),
)
def e2e_people() -> None:
    """One answer comes from a person, the other by itself."""
    approve = ApprovalOperator(task_id="approve", subject="Go on?")
    default = HITLOperator(
        task_id="default",
        subject="Which one?",
        options=["red", "green"],
        defaults="green",
        response_timeout=timedelta(seconds=10),
    )

    @task
    def chosen(answer: dict) -> None:
        print("chosen", answer["chosen_options"])
        time.sleep(10)  # the deadline passes in any case

    approve >> chosen(default.output)


e2e_people()
