"""What runs on the host from time to time, as systemd timers that airflow.target starts and stops.

systemctl list-timers 'airflow-*' shows each with its last and its next time.
"""

from __future__ import annotations

from typing import NamedTuple

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.airflow.services import written_folders
from tasks.host import tls
from tasks.layout import (
    CONFIG,
    CONTROL_USER,
    DAGS_USER,
    HOMES,
    KUBECONFIG,
    LOOPBACK,
    STARTED_WITH,
    UNITS_DIRECTORY,
)
from tasks.lib.operations import settled
from tasks.settings import HostSettings
from tasks.worker import image

CLEAN_HISTORY = "/usr/local/lib/airflow/clean-history"
LIVENESS = "/usr/local/lib/airflow/liveness"


class Timer(NamedTuple):
    """A timer and its service."""

    name: str
    description: str
    commands: list[str]  # as systemd reads them
    wanted: bool = True
    calendar: str = ""  # when, as OnCalendar= has it; a time that was missed is made up for
    every: str = ""  # or how long after it ended
    user: str = CONTROL_USER
    folders: tuple[str, ...] = ()  # outside of the units' own places that it writes to
    options: tuple[str, ...] = ()  # more lines of the service; they win over the sandbox

    @property
    def units(self) -> tuple[str, str]:
        """Names of the timer and of its service."""
        return f"airflow-{self.name}.timer", f"airflow-{self.name}.service"


def timers(settings: HostSettings) -> list[Timer]:
    """All of them, also those that are not wanted."""
    airflow = f"{settings.venv}/bin/airflow"
    minutes = settings.retention.failed_pod_minutes
    log_folders = " ".join([layout.LOGS, *written_folders(settings)])
    log_age = settings.retention.log_days - 1  # find counts whole days, and wants more than these
    return [
        Timer(
            name="liveness",
            description="look for services that hang",
            commands=[f"{LIVENESS} {settings.web.local_url}"],
            every="10s",
            options=(
                "# To see and to kill what hangs, whoever runs it.",
                "ProtectProc=default",
                "CapabilityBoundingSet=CAP_KILL",
                "AmbientCapabilities=CAP_KILL",
                "IPAddressDeny=any",
                f"IPAddressAllow={LOOPBACK}",
                "UMask=0077",
                "# Nothing of the six looks a minute, but what was restarted.",
                "LogLevelMax=notice",
            ),
        ),
        Timer(
            name="cleanup-pods",
            description="clean-up of pods that ended",
            # One that never could start counts as failed, but Airflow itself must have given it
            # up before.
            commands=[
                f"{airflow} kubernetes cleanup-pods --namespace={namespace}"
                f" --min-completed-minutes={minutes} --min-pending-minutes={max(minutes, 30)}"
                for namespace in settings.kubernetes.namespaces
            ],
            wanted=settings.retention.keeps_pods,
            every="10min",
            options=(
                "# It prints pods that it deletes, and in a pod's manifest is its task's token.",
                "StandardOutput=null",
            ),
        ),
        Timer(
            name="backup",
            description="backup of database, secrets and configuration",
            commands=[layout.BACKUP],
            wanted=settings.retention.backups > 0,
            calendar="02:30",
            user="root",
            folders=(layout.BACKUPS,),
            options=(
                "# It becomes postgres, whose socket it needs, and reads what is postgres' own.",
                "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH",
                "# Otherwise systemd 257 takes CAP_SETUID away once it has set the filter.",
                "AmbientCapabilities=CAP_SETUID",
                "SystemCallFilter=@setuid capset",
                "RestrictAddressFamilies=",
                "RestrictAddressFamilies=AF_UNIX",
                "PrivateNetwork=yes",
                "UMask=0077",
            ),
        ),
        Timer(
            name="cleanup-history",
            description="clean-up of old runs in the database",
            commands=[f"{CLEAN_HISTORY} {settings.retention.history_days} {airflow}"],
            wanted=settings.retention.history_days > 0,
            calendar="03:30",
        ),
        Timer(
            name="cleanup-logs",
            description="clean-up of old log files",
            commands=[
                f"/usr/bin/find {log_folders} -type f -name *.log -mtime +{log_age} -delete",
                # Not one that a task may be about to write into.
                f"/usr/bin/find {log_folders} -mindepth 1 -type d -empty -mtime +0 -delete",
            ],
            wanted=settings.retention.log_days > 0,
            calendar="04:00",
            user=DAGS_USER,
            folders=tuple(written_folders(settings)),
        ),
        Timer(
            name="cleanup-images",
            description="clean-up of old worker images",
            commands=[image.pruning(settings, "remove")],
            wanted=settings.node_is_host,
            calendar="04:30",
            user="root",
            options=("PrivateUsers=yes", "UMask=0077"),
        ),
        Timer(
            name="certificate",
            description="renewal of the proxy's certificate",
            commands=[tls.making("make", settings)],
            calendar="05:00",
            user="root",
            folders=(layout.TLS,),
            options=(
                "# To ask for the host's own address.",
                "RestrictAddressFamilies=",
                "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK",
                "PrivateUsers=yes",
                "UMask=0077",
                "# Outside of the sandbox, and only if there is another one.",
                f"ExecStartPost=+/bin/sh -c 'sha256sum --check --status {STARTED_WITH}/"
                f"{layout.NGINX_UNIT} || systemctl try-reload-or-restart {layout.NGINX_UNIT}'",
            ),
        ),
    ]


@deploy("Timers")
def run(settings: HostSettings) -> None:
    """Each timer that is wanted runs, and no other is there."""
    for path, what in (
        (LIVENESS, "looks for services that hang"),
        (CLEAN_HISTORY, "cleans the database"),
    ):
        files.put(name=f"Write what {what}", src=f"files{path}", dest=path, mode="755")
    every = timers(settings)
    wanted = [timer for timer in every if timer.wanted]
    for timer in every:
        if timer.wanted:
            _write(timer)
        else:
            _remove(timer)
    both = " ".join(unit for timer in wanted for unit in timer.units)
    enabled = " ".join(timer.units[0] for timer in wanted)
    settled(
        name="Run the timers",
        test=f"! systemctl show -P NeedDaemonReload {both} | grep -q yes"
        f' && test "$(systemctl is-enabled {enabled} | grep -cx enabled)" = {len(wanted)}'
        f" && ! systemctl is-active {enabled} | grep -vx active",
        commands=["systemctl daemon-reload", f"systemctl enable --quiet --now {enabled}"],
        because="they run as they are written",
    )


def _write(timer: Timer) -> None:
    for unit, kind in zip(timer.units, ("timer", "service"), strict=True):
        files.template(
            name=f"Write {unit}",
            src=f"files{UNITS_DIRECTORY}/airflow-timer.{kind}.j2",
            dest=f"{UNITS_DIRECTORY}/{unit}",
            mode="644",
            timer=timer,
            home=HOMES.get(timer.user, HOMES[CONTROL_USER]),
            config=CONFIG,
            kubeconfig=KUBECONFIG,
        )


def _remove(timer: Timer) -> None:
    paths = [f"{UNITS_DIRECTORY}/{unit}" for unit in timer.units]
    settled(
        name=f"Remove airflow-{timer.name}",
        test=" && ".join(f"! test -e {path}" for path in paths),
        commands=[
            f"systemctl disable --quiet --now {timer.units[0]}; rm -f {' '.join(paths)};"
            " systemctl daemon-reload"
        ],
        because="it is not wanted",
    )
