"""Settings of the sources of DAGs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tasks.layout import ROOT
from tasks.settings.reserved import POD_VARIABLES, refusal
from tasks.settings.types import BundleName, Claim, GitBundle, LocalPath, Section, Variable

# Names that no git bundle may have: those of the deploy's bundles, and Airflow's.
RESERVED_BUNDLES = ("dags-folder", "deploy", "example_dags")


class Dags(Section):
    """The sources of DAGs, and the environment of their code."""

    heading: ClassVar[str] = "DAGs"

    source: Literal["host", "volume_claim", "image", "git"] = Field(
        default="host",
        description="Where DAGs come from: the `host`'s folder `/opt/airflow/dags`, a"
        " `volume_claim`, the worker `image`, or `git` alone.",
    )
    local_folder: LocalPath | None = Field(
        default=None,
        description="Folder on your machine whose DAGs the deploy copies; the source `image`"
        " needs it, for the source `host` it is optional.",
    )
    claim: Claim | None = Field(
        default=None, description="Volume claim of the source `volume_claim`."
    )
    git_bundles: dict[BundleName, GitBundle] = Field(
        default={},
        repr=False,
        description="Git repositories with DAGs, by name; they can be added to any source.",
    )

    env: dict[Variable, str] = Field(
        default={},
        repr=False,
        description="Environment variables of all that runs DAG code: task pods, and on the host"
        " the dag-processor, the triggerer, tasks and the command line; not for secrets.",
    )

    def conflicts(self) -> Iterator[str]:
        """Settings that a source needs or does not use, and values that can't work."""
        if self.source == "volume_claim" and self.claim is None:
            yield 'dags_claim: dags_source = "volume_claim" needs it; write its claim'
        elif self.source != "volume_claim" and self.claim is not None:
            yield (
                f'dags_claim has no meaning with dags_source = "{self.source}":'
                ' write "volume_claim" there'
            )
        if self.source == "git" and not self.git_bundles:
            yield 'dags_git_bundles: dags_source = "git" needs one; write its url'
        yield from self._folder_conflicts()
        yield from self._bundle_conflicts()
        for name, value in self.env.items():
            _, _, option = name.partition("AIRFLOW__")
            section, _, of_section = option.lower().partition("__")
            if reason := POD_VARIABLES.get(name):
                yield f"dags_env: the deploy itself decides {name}: {reason}"
            elif refused := refusal(name, section, of_section, value):
                yield f"dags_env: {refused}"
        if self.claim and re.match(r"/(home|root|run/user)(/|$)", self.claim.host_path):
            yield (
                f"dags_claim: {self.claim.host_path} is hidden from Airflow's services, like all"
                " of /home and /root: choose a place elsewhere, such as /srv"
            )

    def _folder_conflicts(self) -> Iterator[str]:
        if self.source == "image" and self.local_folder is None:
            yield 'dags_local_folder: dags_source = "image" needs it; write the folder'
        if self.local_folder and self.source not in ("image", "host"):
            yield (
                f'dags_local_folder has no meaning with dags_source = "{self.source}": leave it out'
            )
        if self.local_folder and not Path(ROOT, self.local_folder).is_dir():
            yield (
                f"dags_local_folder: there is no folder {self.local_folder} on this machine:"
                " write the path of one, absolute or relative to the deploy's own folder"
            )

    def _bundle_conflicts(self) -> Iterator[str]:
        for name, bundle in self.git_bundles.items():
            if name in RESERVED_BUNDLES:
                yield (
                    f"dags_git_bundles: {name} is a bundle of the deploy or of Airflow:"
                    " choose another name"
                )
            if re.match(r"https?://[^/]*@", bundle.url):
                yield (
                    f"dags_git_bundles: the url of {name} contains a name or a token, which every"
                    " pod would show: put it into a connection (airflow_connections), and the"
                    " connection's id here"
                )
