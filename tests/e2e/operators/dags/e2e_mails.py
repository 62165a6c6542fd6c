"""Mails, and callbacks of a task that fails and of one that succeeds."""

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.providers.smtp.operators.smtp import EmailOperator
from airflow.sdk import dag, task

TO = "ops@example.com"


def say(context) -> None:
    """A callback."""
    print("callback of", context["ti"].task_id)


@dag(schedule=None, catchup=False)
def e2e_mails() -> None:
    """Its run ends well although a task fails, since the last one does not mind."""
    mail = EmailOperator(task_id="mail", to=TO, subject="mail by operator", html_content="größe")

    @task(on_success_callback=say)
    def succeeds() -> None:
        print("fine")

    @task(
        on_failure_callback=[
            say,
            SmtpNotifier(
                to=TO, subject="notice of {{ ti.task_id }}", html_content="{{ ti.log_url }}"
            ),
        ]
    )
    def fails() -> None:
        raise ValueError("on purpose")

    @task(trigger_rule="all_done")
    def last() -> None:
        print("all done")

    [mail, succeeds(), fails()] >> last()


e2e_mails()
