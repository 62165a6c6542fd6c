"""A folder that stands for a host whose database is a real PostgreSQL, for backup and restore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tasks.settings import HostSettings
from tests.unit import fake, postgres, programs

HEALTHY = {
    name: {"status": "healthy"}
    for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
}
# Linux users are roles of PostgreSQL: these stand-ins make a role of the user.
PROGRAMS = {
    "id": "echo 0",
    "runuser": 'user=$2; shift 3; PGUSER=$user exec "$@"',
    "setpriv": 'user=${1#*=}; shift 3; PGUSER=$user exec "$@"',
    "df": "echo Avail; echo 1000000000",
    "systemctl": ":",
    "curl": f"echo '{json.dumps(HEALTHY)}'",
}
# Airflow's migration: it reaches the given database, as the user that runs it.
AIRFLOW = """#!/bin/sh
database=${AIRFLOW__DATABASE__SQL_ALCHEMY_CONN##*///}
exec psql -XAtq -v ON_ERROR_STOP=1 "${database%%\\?*}" -c "
    update alembic_version set version_num = 'new head'; alter table dag add column added text"
"""


class Host:
    """A folder that stands for a host, with a PostgreSQL that runs."""

    def __init__(
        self,
        folder: Path,
        server: postgres.Server,
        settings: HostSettings | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.env = programs.host_env(folder, settings or fake.settings(), values)
        (folder / "bin").mkdir()
        for name, script in PROGRAMS.items():
            path = folder / "bin" / name
            # The programs drop variables of their caller, such as the place of a PostgreSQL.
            path.write_text(f"#!/bin/sh\nexport PGHOST={server.folder} PGUSER=postgres\n{script}\n")
            path.chmod(0o755)
        root = folder / "root"
        texts = {
            "etc/airflow/secrets/fernet-key": "KEY=1\n",
            "etc/airflow/pod_template.yaml": "image: localhost/worker:1\n",
            "etc/systemd/system/airflow.target": "",
            "usr/local/bin/airflow": "",
            "var/lib/airflow-deploy/programs": "",
            "var/lib/airflow-deploy/units": "",
            "var/lib/airflow-deploy/backup-key": "0123\n",
            "usr/local/lib/airflow/run": "",
            "opt/airflow/venvs/3.3.2-4567/bin/airflow": AIRFLOW,
        }
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "opt/airflow/venvs/3.3.2-4567/bin/airflow").chmod(0o755)
        (root / "opt/airflow/venv").symlink_to(root / "opt/airflow/venvs/3.3.2-4567")
        for name in ("run/lock", "var/lib/airflow", "var/lib/airflow-deploy"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.migrated = root / "var/lib/airflow-deploy/migrated"
        search = f"{folder}/bin:{server.environment['PATH']}"
        self.env |= server.environment | {"PATH": search}

    def call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the commands."""
        return subprocess.run(
            [programs.BIN / program, *arguments], env=self.env, text=True, capture_output=True
        )
