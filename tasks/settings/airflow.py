"""Settings of Airflow itself, and of the objects in its database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from tasks.layout import ROOT
from tasks.settings.reserved import refusal
from tasks.settings.types import (
    CfgOption,
    CfgSection,
    CfgValue,
    Connection,
    ConnectionId,
    Executor,
    ObjectName,
    Pool,
    PythonRequirement,
    RequirementsLock,
    Section,
    Version,
)

LOCKS = ROOT / "files/opt/airflow/requirements"


class Airflow(Section):
    """Airflow itself, and the objects in its database."""

    heading: ClassVar[str] = "Airflow"

    version: Version = Field(
        default="3.3.2",
        description="Version of Airflow; `files/opt/airflow/requirements/` must hold its lock"
        " file.",
    )
    extra_requirements: list[PythonRequirement] = Field(
        default=[],
        repr=False,
        description="Additional Python requirements, on the host and in the worker image.",
    )
    extra_requirements_lock: RequirementsLock | None = Field(
        default=None,
        repr=False,
        description="Text of `/etc/airflow/extra-requirements.txt` from a host with the same"
        " `airflow_extra_requirements`, Airflow and Python, to install the same versions.",
    )
    config: dict[CfgSection, dict[CfgOption, CfgValue]] = Field(
        default={},
        repr=False,
        description="Additional options of airflow.cfg, by section, for the services and for the"
        " tasks in pods; they override the deploy's own; not for secrets.",
    )
    executor: Executor = Field(
        default="KubernetesExecutor",
        description="Executors; the first runs each task that names none. With `LocalExecutor`"
        " added, tasks that name it run on the host.",
    )
    uid: int = Field(
        default=50000,
        ge=100,
        le=65533,
        description="User and group id that runs DAG code: in task pods, and as the host's user"
        " `airflow-dags`.",
    )
    examples: bool = Field(default=True, description="Install the example DAGs.")
    smoke_test: bool = Field(
        default=True,
        description="Run a tiny DAG as a pod at the end of a deploy that changed something.",
    )
    connections: dict[ConnectionId, Connection] = Field(
        default={},
        repr=False,
        description="Connections, by id; the deploy creates and corrects them, and never shows"
        " them.",
    )
    variables: dict[ObjectName, str] = Field(
        default={},
        repr=False,
        description="Variables of Airflow; the deploy creates and corrects them, and never shows"
        " them.",
    )
    pools: dict[ObjectName, Pool] = Field(
        default={}, description="Pools, by name; the deploy creates and corrects them."
    )

    def conflicts(self) -> Iterator[str]:
        """A version that the repository has no lock file for, and options of the deploy's own."""
        for section, options in self.config.items():
            for name, value in options.items():
                if refused := refusal(f"{section}.{name}", section, name, value):
                    yield f"airflow_config: {refused}"
        if not self.lock_path.is_file():
            locked = ", ".join(sorted(path.stem for path in LOCKS.glob("[0-9]*.txt")))
            yield (
                f"airflow_version: there is no lock file for {self.version}; write one of: {locked}"
            )

    @property
    def lock_path(self) -> Path:
        """The lock file of this version, in the repository."""
        return LOCKS / f"{self.version}.txt"

    @cached_property
    def lock(self) -> str:
        """The content of the lock file."""
        return self.lock_path.read_text()

    @property
    def tasks_on_host(self) -> bool:
        """Whether tasks may also run on the host, outside pods."""
        return "LocalExecutor" in self.executor
