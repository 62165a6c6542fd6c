"""Answer questions: run commands of the shell, a few at a time.

The deploy sends this text, since the host may have none of its programs. Standard input is a list
in JSON: of each question the command and its standard input. Standard output is a list of the
answers: of each the exit status, and the lines of its output and of its errors.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def lines(text: bytes) -> list[str]:
    """The lines of a text, without an empty one at its end."""
    return text.decode(errors="replace").removesuffix("\n").split("\n") if text else []


def answer(question: tuple[str, str]) -> tuple[int, list[str], list[str]]:
    """What a command says."""
    command, given = question
    done = subprocess.run(["sh", "-c", command], input=given.encode(), capture_output=True)
    return done.returncode, lines(done.stdout), lines(done.stderr)


# Some wait for others, such as the cluster. More than a few would only take memory, and connections
# to the database.
with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 1))) as pool:
    print(json.dumps([*pool.map(answer, json.load(sys.stdin))]))
