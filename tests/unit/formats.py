"""Small readers of the formats that no library here reads, as strict as the programs are."""

from __future__ import annotations

import configparser
import re
from typing import Any, NamedTuple

import yaml

from tests.unit.fake import Plan


class Unit(NamedTuple):
    """A systemd unit: its options by «Section.Name», each with all of its values."""

    options: dict[str, list[str]]

    def all(self, option: str) -> list[str]:
        """All values of an option."""
        return self.options.get(option, [])

    def one(self, option: str) -> str:
        """The value of an option that is there once."""
        (value,) = self.options[option]
        return value

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the unit sets itself."""
        words = [word for line in self.all("Service.Environment") for word in unit_words(line)]
        return dict(word.split("=", 1) for word in words)

    @classmethod
    def parse(cls, text: str) -> Unit:
        """https://www.freedesktop.org/software/systemd/man/latest/systemd.syntax.html"""
        options: dict[str, list[str]] = {}
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if not line.strip() or line.startswith(("#", ";")):
                continue
            if header := re.fullmatch(r"\[(\w+)\]", line):
                section = header[1]
                continue
            name, equals, value = line.partition("=")
            if not (section and equals and re.fullmatch(r"[A-Z][A-Za-z]+", name)):
                raise ValueError(f"systemd would not understand {line!r}")
            options.setdefault(f"{section}.{name}", []).append(value.strip())
        return cls(options)


UNIT_WORD = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"']\S*))(?=\s|$)"""
)


# What systemd would put something else in for: all specifiers of systemd.unit(5), but for %n, which
# a unit of ours means; and variables, systemd.service(5), "Command lines".
EXPANDED = re.compile(r"%[a-zA-Z](?<!n)|\$\{|^\$\w")


def unit_words(line: str) -> list[str]:
    """Split a value as systemd does: quotes hold whole words, `%%` and `$$` mean one of them.

    See also "Quoting" in systemd.syntax(7).
    """
    words, place = [], 0
    while place < len(line.rstrip()):
        if not (match := UNIT_WORD.match(line, place)):
            raise ValueError(f"systemd would not understand the quotes of {line[place:]!r}")
        place = match.end()
        word = next(group for group in match.groups() if group is not None)
        word = re.sub(r"\\([\\\"'])", r"\1", word)
        if EXPANDED.search(word.replace("%%", "").replace("$$", "")):
            raise ValueError(f"systemd would expand something in {word!r}")
        words.append(word.replace("%%", "%").replace("$$", "$"))
    return words


def airflow_config(text: str) -> configparser.ConfigParser:
    """Airflow's own parser is a ConfigParser with this interpolation: `%%` is a percent sign."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


POSTGRES_LINE = re.compile(r"(?P<name>[a-zA-Z_][\w.]*) = '(?P<value>(?:[^'\\\n]|\\.|'')*)'")


def postgres_config(text: str) -> dict[str, str]:
    """https://www.postgresql.org/docs/current/config-setting.html; the last of a name wins.

    In quotes a backslash escapes (src/backend/utils/misc/guc-file.l, rule STRING).
    """
    options = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if not (match := POSTGRES_LINE.fullmatch(line)):
            raise ValueError(f"PostgreSQL would not understand {line!r}")
        options[match["name"]] = re.sub(r"\\(.)|'(')", r"\1\2", match["value"])
    return options


def pod(plan: Plan) -> dict[str, Any]:
    """The pod template."""
    loaded = yaml.safe_load(plan.uploads["/etc/airflow/pod_template.yaml"])
    assert isinstance(loaded, dict)
    return loaded
