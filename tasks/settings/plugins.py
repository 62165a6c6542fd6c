"""Settings of the sources of Airflow's plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tasks.layout import ROOT
from tasks.settings.types import LocalPath, Section


class Plugins(Section):
    """The sources of Airflow's plugins, and of modules that DAGs share.

    A volume claim is none of them: a task can mount the claims of its namespace to write, and
    plugins run in the api-server, which has all keys.
    """

    heading: ClassVar[str] = "Plugins"

    source: Literal["host", "image"] | None = Field(
        default=None,
        description="Where task pods get plugins from: the `host`'s folder `/opt/airflow/plugins`,"
        " or the worker `image`; none is `host` where the node sees the host's folders, and no"
        " plugins elsewhere.",
    )
    local_folder: LocalPath | None = Field(
        default=None,
        description="Folder on your machine whose plugins the deploy copies to the host; the"
        " source `image` needs it.",
    )

    def conflicts(self) -> Iterator[str]:
        """A folder that a source needs, or that is not there."""
        if self.source == "image" and self.local_folder is None:
            yield 'plugins_local_folder: plugins_source = "image" needs it; write the folder'
        if self.local_folder and not Path(ROOT, self.local_folder).is_dir():
            yield (
                f"plugins_local_folder: there is no folder {self.local_folder} on this machine:"
                " write the path of one, absolute or relative to the deploy's own folder"
            )
