"""Small readers of the formats that no library here reads, as strict as the programs are."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from tasks import layout
from tests.unit.fake import Plan

SYSTEMD = "/etc/systemd/system"


class Unit(NamedTuple):
    """A systemd unit: its options by «Section.Name», each with all of its values."""

    options: dict[str, list[str]]
    host_values: Mapping[str, str] = MappingProxyType({})  # of the file, if the unit reads it

    def all(self, option: str) -> list[str]:
        """All values of an option."""
        return self.options.get(option, [])

    def last(self, option: str) -> str:
        """The value of an option that is in force: a drop-in overrides the unit."""
        return self.options[option][-1]

    def one(self, option: str) -> str:
        """The value of an option that is there once."""
        (value,) = self.options[option]
        return value

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the unit sets itself."""
        words = [word for line in self.all("Service.Environment") for word in unit_words(line)]
        return dict(word.split("=", 1) for word in words)

    def commands(self, option: str) -> list[list[str]]:
        """The words of each command, with the program's path and the values of variables.

        See "Command lines" in systemd.service(5) and ExecSearchPath= in systemd.exec(5).
        """
        given = self.all(option)
        # An empty one takes back those above it.
        last_reset = max((place for place, line in enumerate(given) if not line), default=-1)
        return [self._words(line) for line in given[last_reset + 1 :]]

    def _words(self, line: str) -> list[str]:
        program, *words = line.split()
        if "/" not in program:
            program = f"{self.one('Service.ExecSearchPath').split(':')[0]}/{program}"
        return [program, *(each for word in words for each in self._expanded(word))]

    def _expanded(self, word: str) -> list[str]:
        """A variable that is a word by itself can have several words, or none."""
        if re.fullmatch(r"\$\w+", word):
            return self._variable(word[1:]).split()
        return unit_words(re.sub(r"\$\{(\w+)\}", lambda name: self._variable(name[1]), word))

    def _variable(self, name: str) -> str:
        """A file overrides the unit's own variables."""
        return {**self.environment, **self.host_values}[name]

    @classmethod
    def of(cls, plan: Plan, name: str) -> Unit:
        """A unit that a deploy writes, with its drop-ins in systemd's order."""
        options: dict[str, list[str]] = {}
        for path in paths_of(plan, name):
            for option, values in cls.parse(plan.uploads[path]).options.items():
                options.setdefault(option, []).extend(values)
        reads = "/etc/airflow/host.env" in options.get("Service.EnvironmentFile", [])
        return cls(options, host_values(plan) if reads else {})

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


def paths_of(plan: Plan, name: str) -> list[str]:
    """The files of a unit: itself, and its drop-ins in the order in which systemd reads them.

    A folder for a prefix of the name, which ends with a dash, is one of them: systemd.unit(5).
    """
    stem, _, kind = name.rpartition(".")
    dashes = [at + 1 for at, letter in enumerate(stem) if letter == "-"]
    folders = [f"{SYSTEMD}/{stem[:end]}.{kind}.d" for end in (*dashes, len(stem))]
    drop_ins = {
        path.rpartition("/")[2]: path
        for folder in folders
        for path in plan.uploads
        if path.rpartition("/")[0] == folder and path.endswith(".conf")
    }
    own = [f"{SYSTEMD}/{name}"] if f"{SYSTEMD}/{name}" in plan.uploads else []
    return [*own, *(drop_ins[each] for each in sorted(drop_ins))]


UNIT_WORD = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"']\S*))(?=\s|$)"""
)


# Text that systemd would replace: all specifiers of systemd.unit(5) except %n, which a unit of the
# deploy means; and variables, systemd.service(5), "Command lines".
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


def host_values(plan: Plan) -> dict[str, str]:
    """The values of the host that its programs read, as sh understands them."""
    lines = plan.uploads["/etc/airflow/host.env"].splitlines()
    words = [shlex.split(line) for line in lines if not line.startswith("#")]
    return dict(word.split("=", 1) for (word,) in words)


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
    loaded = yaml.load(plan.uploads[layout.POD_CANDIDATE], yaml.CSafeLoader)
    assert isinstance(loaded, dict)
    return loaded


def config_of(plan: Plan) -> Any:
    """airflow.cfg as Airflow reads it."""
    return airflow_config(plan.uploads["/etc/airflow/airflow.cfg"])


def keepalived_config(text: str) -> dict[str, Any]:
    """keepalived's configuration: values by the first words of their lines, blocks by their
    names."""
    found: dict[str, Any] = {}
    blocks = [found]
    for line in (each.strip() for each in text.splitlines()):
        if line.endswith("{"):
            blocks.append(blocks[-1].setdefault(line.removesuffix("{").strip(), {}))
        elif line == "}":
            blocks.pop()
        elif line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            assert key not in blocks[-1], line
            blocks[-1][key] = value
    assert blocks == [found]
    return found
