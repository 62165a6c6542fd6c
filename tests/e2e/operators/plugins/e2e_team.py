"""A plugin of a team: a module that DAGs import, an operator, a timetable, a macro, a listener."""

import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperator
from airflow.timetables.trigger import CronTriggerTimetable


def shout(text: str) -> str:
    """A macro, and a function that DAGs import."""
    return text.upper() + "!"


async def missed(word: str) -> str:
    """A callback of a deadline, which the triggerer runs."""
    return shout(word)


class ShoutOperator(BaseOperator):
    """Says its text aloud; the text may be a template."""

    template_fields = ("text",)

    def __init__(self, *, text: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context: Any) -> str:
        """Say it, and return it as the XCom."""
        print("operator says", shout(self.text))
        return shout(self.text)


class NewYear(CronTriggerTimetable):
    """A run at the beginning of each year."""

    def __init__(self) -> None:
        super().__init__("0 0 1 1 *", timezone="UTC")

    def serialize(self) -> dict[str, Any]:
        """Nothing differs between two of them."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> "NewYear":
        """Make one again."""
        return cls()


@hookimpl
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    """Airflow calls this in the process of each task."""
    print("listener saw", task_instance.task_id)


class TeamPlugin(AirflowPlugin):
    """Makes all of it known to Airflow."""

    name = "e2e_team"
    timetables = [NewYear]  # noqa: RUF012
    macros = [shout]  # noqa: RUF012
    listeners = [sys.modules[__name__]]  # noqa: RUF012
