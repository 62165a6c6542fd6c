"""Kubernetes' own certificates, and the ends of all certificates of the host for Prometheus."""

from __future__ import annotations

from tasks.lib.operations import ensure


def watch() -> None:
    """No certificate of the cluster on this host ends within 30 days; the ends are recorded."""
    ensure(
        name="Renew Kubernetes' certificates and record when certificates end",
        program="certificates.sh",
        already="none of the cluster ends within 30 days, and the ends are recorded",
    )
