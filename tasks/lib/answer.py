"""Answer questions: run commands of the shell, one after the other.

The deploy sends this text, since the host may have none of its programs. Standard input is a list
in JSON: of each question the command and its standard input. Standard output is a list of the
answers: of each the exit status, and the lines of its output and of its errors.
"""

import json
import subprocess
import sys


def lines(text: bytes) -> list[str]:
    """The lines of a text, without an empty one at its end."""
    return text.decode(errors="replace").removesuffix("\n").split("\n") if text else []


answers = []
for command, given in json.load(sys.stdin):
    done = subprocess.run(["sh", "-c", command], input=given.encode(), capture_output=True)
    answers.append([done.returncode, lines(done.stdout), lines(done.stderr)])
print(json.dumps(answers))
