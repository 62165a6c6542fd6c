#!/usr/bin/python3 -B
"""one-active.py PROGRAM ARGUMENT...: run a program on one host only, of all that share Airflow's
database; on the others wait. Written by the deploy of Airflow.

Airflow's dag-processor must not run twice. The one that runs has a lock in the database, which ends
with its connection. When the connection is lost, the program ends, and another host starts its own.
"""

import os
import select
import signal
import subprocess
import sys
import time

from lib import usage, words

LOCK = "pg_catalog.pg_try_advisory_lock(20202, 1)"  # of this program, in Airflow's database
LOOK_EVERY = 2.0  # seconds
ANSWER_WITHIN = 10.0  # seconds, shorter than those after which the server gives a silent host up
END_WITHIN = 10.0  # seconds
# After 25 seconds without a sign of life of this host the server ends the session, and so the lock.
OPTIONS = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=25000 -c idle_session_timeout=0"
)


class Lost(Exception):
    """The connection to the database is lost."""


class Session:
    """One session in the database, held by psql."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._psql = subprocess.Popen(
            ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"],
            env={**os.environ, "PGOPTIONS": OPTIONS, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, question: str) -> str:
        """The answer to a question; raises Lost if there is none in time."""
        assert self._psql.stdin and self._psql.stdout
        try:
            self._psql.stdin.write(f"select {question};\n".encode())
            self._psql.stdin.flush()
        except OSError as error:
            raise Lost(str(error)) from None
        readable, _, _ = select.select([self._psql.stdout], [], [], ANSWER_WITHIN)
        answer = self._psql.stdout.readline().decode().strip() if readable else ""
        if not answer:
            raise Lost("it gives no answer")
        return answer


def session() -> Session:
    """A session of the role of DAGs' code."""
    return Session(dict(word.split("=", 1) for word in words("DAGS_CONNECTION")))


def say(message: str) -> None:
    """Tell the journal."""
    print(f"one-active: {message}", flush=True)


def run(database: Session, command: list[str]) -> int:
    """Run the program as long as the session lives; returns its exit code."""
    program = subprocess.Popen(command)
    # The unit's own command to stop it repeats the signal.
    signal.signal(signal.SIGTERM, lambda number, frame: program.terminate())
    while True:
        try:
            return program.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            pass
        try:
            database.ask("1")
        except Lost:
            say("the connection to the database is lost: another host may take over")
            program.terminate()
            try:
                program.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                program.kill()
            raise


def main() -> None:
    """Wait for the lock, and run the program with it."""
    if len(sys.argv) < 2:
        usage()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        database = session()
        if database.ask(LOCK) != "t":
            say("another host is active: this one waits")
            while database.ask(LOCK) != "t":
                time.sleep(LOOK_EVERY)
        say("this host is active")
        if run(database, sys.argv[1:]):
            sys.exit(1)
    except Lost as error:
        say(f"no session in the database: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
