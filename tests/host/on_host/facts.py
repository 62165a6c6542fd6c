"""Things to look at on this host that the settings do not name."""

from __future__ import annotations

import glob
import json
import os
import subprocess

HOMES = ("/root", "/home/*", "/var/lib/postgresql", "/var/lib/airflow", "/var/lib/airflow-dags")


def property_of(unit: str, name: str) -> str:
    command = ["systemctl", "show", "--timestamp=unix", "-P", name, unit]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def nightly_backup() -> float:
    unit = "airflow-backup.service"
    began = property_of(unit, "ExecMainStartTimestamp").lstrip("@")
    return float(began or 0) if property_of(unit, "Result") == "success" else 0


def modified(path: str) -> float:
    return os.path.getmtime(path) if os.path.exists(path) else 0


backups = {path: modified(path) for path in glob.glob("/var/backups/airflow/*.tar")}
histories = [path for home in HOMES for path in glob.glob(f"{home}/.*hist*")]
sites = [*glob.glob("/etc/nginx/sites-enabled/*"), *glob.glob("/etc/nginx/conf.d/*.conf")]
answer = {
    "backups": dict(sorted(backups.items(), key=lambda each: each[1], reverse=True)),
    "backup_program": modified("/usr/local/bin/airflow-backup"),
    "nightly_backup": nightly_backup(),
    "histories": [path for path in histories if os.path.isfile(path) and os.path.getsize(path)],
    "sites": [path for path in sites if path != "/etc/nginx/sites-enabled/airflow"],
}
print(json.dumps(answer))
