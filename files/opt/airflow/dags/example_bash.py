"""Bash tasks in a row and side by side, each a pod of its own."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag


@dag(schedule=None, catchup=False, tags=["example"])
def example_bash() -> None:
    """Three pods count to three at the same time; a fourth says where they ran."""
    start = BashOperator(task_id="start", bash_command="echo starting in $(hostname)")
    count = BashOperator.partial(task_id="count").expand(
        bash_command=[f"echo {number} in $(hostname)" for number in (1, 2, 3)]
    )
    end = BashOperator(
        task_id="end",
        bash_command='echo "done on node $HOST_IP in $(date +%T)"',
    )
    start >> count >> end


example_bash()
