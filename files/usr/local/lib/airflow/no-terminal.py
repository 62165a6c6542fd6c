"""no-terminal.py PROGRAM ARGUMENT...: run a program that has no controlling terminal. Written by
the deploy of Airflow; run does so for commands that run the code of DAGs.

A process can type into its controlling terminal (TIOCSTI), which is that of root here: it would
give commands to root's shell. Output and input stay, and Ctrl-C reaches the program.
"""

import os
import signal
import subprocess
import sys


def main() -> None:
    """Run the program, and end with its exit code."""
    if len(sys.argv) < 2:
        # It begins with Python's own modules only (-I), since variables of DAGs can name others.
        print("usage: no-terminal.py PROGRAM ARGUMENT...", file=sys.stderr)
        sys.exit(2)
    program: subprocess.Popen[bytes] | None = None
    early: list[int] = []  # signals that came while the program began

    def pass_on(number: int, frame: object) -> None:
        """Let the program and its children decide what a signal means."""
        if program is None:
            early.append(number)
        else:
            os.killpg(program.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    program = subprocess.Popen(sys.argv[1:], start_new_session=True)
    for each in early:
        os.killpg(program.pid, each)
    code = program.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
