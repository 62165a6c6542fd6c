"""Everything that a plugin can bring: a module, an operator, a timetable, a macro, a listener."""

from airflow.sdk import dag, task
from e2e_team import NewYear, ShoutOperator, shout


@dag(schedule=NewYear(), catchup=False)
def e2e_plugins() -> None:
    """Each task says something through the plugin."""

    @task
    def module() -> None:
        print("module says", shout("hello"))

    @task.bash
    def macro() -> str:
        return "echo 'macro says {{ macros.e2e_team.shout(task.task_id) }}'"

    module() >> macro() >> ShoutOperator(task_id="operator", text="{{ dag.dag_id }}")


e2e_plugins()
