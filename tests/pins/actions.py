"""The actions of GitHub's workflows, which name a major version."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.pins import sources
from tests.pins.pin import Files, Found, Row, newest

WORKFLOWS = ".github/workflows"
USES = re.compile(r"(?<=uses: )(?P<name>[\w.-]+/[\w.-]+)@(?P<version>v\d+)\b")


def look_at_actions(root: Path) -> Found:
    """The major version of each action's newest release."""
    texts = {
        f"{WORKFLOWS}/{path.name}": path.read_text()
        for path in sorted((root / WORKFLOWS).glob("*.yml"))
    }
    here = {use["name"]: use["version"] for text in texts.values() for use in USES.finditer(text)}
    newer = {}
    for name, version in here.items():
        url = f"{sources.AT['github_api']}/repos/{name}/releases/latest"
        latest = str(json.loads(sources.text(url))["tag_name"]).partition(".")[0]
        newer[name] = newest(version, latest)

    def files() -> Files:
        return {
            path: USES.sub(lambda use: f"{use['name']}@{newer[use['name']]}", text)
            for path, text in texts.items()
        }

    return Found([Row(name, here[name], newer[name]) for name in here], files)
