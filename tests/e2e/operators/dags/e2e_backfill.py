"""A daily DAG whose past is made up for by a backfill."""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import dag, get_current_context, task


@dag(schedule="@daily", start_date=datetime(2025, 1, 1), catchup=False, max_active_runs=2)
def e2e_backfill() -> None:
    """Says for which day it runs."""

    @task
    def day() -> None:
        began = get_current_context()["logical_date"]
        assert began is not None
        print("day", began.astimezone(ZoneInfo("Europe/Berlin")).date())

    day()


e2e_backfill()
