"""Settings of the worker image and the task pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.types import (
    DebianPackage,
    LocalPath,
    PodManifest,
    Registry,
    Section,
    Token,
)


class Worker(Section):
    """The worker image and the task pods."""

    heading: ClassVar[str] = "Worker image and task pods"

    image: Token | None = Field(
        default=None,
        description="Image of the task pods; none builds one from the host's own venv.",
    )
    image_edition: int = Field(
        default=0,
        ge=0,
        description="Any number, such as a month: another one builds the worker image again, with"
        " Debian's present packages.",
    )
    extra_apt_packages: list[DebianPackage] = Field(
        default=[],
        description="Additional Debian packages in the worker image, and on the host, which reads"
        " DAGs.",
    )
    registry: Registry | None = Field(
        default=None,
        repr=False,
        description="Registry that the built worker image is pushed to and pulled from.",
    )
    resources: dict[str, dict[str, str]] = Field(
        default={
            # Without a request, Kubernetes requests as much as the limit.
            "requests": {"cpu": "50m", "memory": "256Mi", "ephemeral-storage": "100Mi"},
            "limits": {"memory": "1Gi", "ephemeral-storage": "2Gi"},
        },
        description="Resources of a task pod's container, in Kubernetes' notation.",
    )
    pod_override: PodManifest = Field(
        default=PodManifest(),
        repr=False,
        description="Additional parts of the task pods' manifest, merged like a `pod_override`.",
    )
    pod_template: LocalPath | None = Field(
        default=None, description="File on your machine that replaces the generated pod template."
    )
    delete_finished_pods: bool = Field(
        default=True,
        description="Delete a successful task's pod at once; otherwise keep it as long as a"
        " failed one.",
    )

    def conflicts(self) -> Iterator[str]:
        """Settings that exclude each other, and values that can't work."""
        for name in ("registry", "image_edition"):
            if self.image and getattr(self, name):
                yield f"worker_image and worker_{name} exclude each other: leave one out"
        registry = self.registry
        if registry and (registry.username is None) != (registry.password is None):
            yield "worker_registry: username and password belong together: write both, or none"
        if self.pod_template:
            for name in ("pod_override", "resources"):
                if self.gives(name):
                    yield (
                        f"worker_{name} and worker_pod_template exclude each other: leave one out"
                    )
        containers = self.pod_override.get("spec", {}).get("containers", [])
        if containers and containers[0].get("name") != "base":
            yield (
                "worker_pod_override: containers are merged by their position, and the first of"
                ' spec.containers is the task\'s own: write its name "base", and others after it'
            )

    def gives(self, name: str) -> bool:
        """Whether the inventory gives this setting of the section a value that is not empty."""
        return name in self.model_fields_set and bool(getattr(self, name))

    @property
    def pulls_with_login(self) -> bool:
        """Whether the cluster needs a login to pull the worker image."""
        return bool(self.registry and self.registry.password)
