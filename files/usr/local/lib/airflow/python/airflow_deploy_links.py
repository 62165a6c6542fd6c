"""A link to the source of DAGs, in the web page, is a link and nothing more.

The dag-processor signs the text of such a link with a key that the code of DAGs has as well.
Airflow 3.3.2 formats that text in the api-server, and in the scheduler for a callback: a width such
as {version:>9999999999} takes all memory. It accepts other schemes than HTTP, such as javascript.
"""

from __future__ import annotations

import string
from typing import Any

from airflow_deploy_imports import replace, when_imported

BUNDLES = "airflow.models.dagbundle"
LONGEST = 2000  # characters, as long as a browser takes a URL


def is_plain(template: str) -> bool:
    """Whether a text with places such as {version} has them without a format."""
    try:
        places = [each[1:] for each in string.Formatter().parse(template) if each[1] is not None]
    except ValueError:
        return False
    return all(name.isidentifier() and not (form or how) for name, form, how in places)


def render_url(own: Any) -> Any:
    """The link of a bundle, if it is a plain one."""

    def replaced(self: Any, version: str | None = None) -> str | None:
        if not is_plain(self._unsign_url() or ""):
            return None
        url: str | None = own(self, version)
        is_link = url and url.startswith(("https://", "http://")) and len(url) <= LONGEST
        return url if is_link else None

    return replaced


def change(module: Any) -> None:
    """Render only plain links of bundles."""
    model = getattr(module, "DagBundleModel", None)
    harm = "A link to the source of a DAG may end the api-server"
    replace(model, "render_url", "self version", render_url, harm)


def install() -> None:
    """Wait for the module of bundles."""
    when_imported(BUNDLES, change)
