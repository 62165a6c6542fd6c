"""A trigger whose arguments are not encrypted keeps no key from being replaced.

A task sends the arguments of its trigger to the Execution API. Airflow 3.3.2 stores an object as
plain JSON and a text as it is. But it decrypts all arguments when the fernet key is replaced, and
one that is not encrypted ends the replacement.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_deploy_imports import replace, when_imported

MODEL = "airflow.models.trigger"
log = logging.getLogger(__name__)


def rotate_fernet_key(own: Any) -> Any:
    """Encrypt arguments again, if they are encrypted."""

    def replaced(self: Any) -> None:
        # Here, since few processes replace a key.
        from cryptography.fernet import InvalidToken

        if self.encrypted_kwargs.startswith("{"):
            return  # Airflow reads it as JSON
        try:
            own(self)
        except InvalidToken:
            log.warning("No key reads the arguments of trigger %s: they stay as they are", self.id)

    return replaced


def change_model(module: Any) -> None:
    """Let a key be replaced."""
    model = getattr(module, "Trigger", None)
    harm = "A deferred task may keep the fernet key from being replaced"
    replace(model, "rotate_fernet_key", "self", rotate_fernet_key, harm)


def install() -> None:
    """Wait for the module of triggers."""
    when_imported(MODEL, change_model)
