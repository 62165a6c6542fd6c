"""How processes reach Airflow's database.

The host's own PostgreSQL is reached over its socket, one elsewhere over TLS. No URL and no variable
has a password: each role's is in a file that only its Linux user may read.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from tasks.layout import CONTROL_USER, DAGS_USER, DATABASE, DATABASE_AUTHORITY, DATABASE_LOGINS
from tasks.settings import HostSettings, Settings
from tasks.settings.types import DatabaseLogin

# The certificates of all authorities that the host trusts; libpq 15 has no word for these.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
# The variables whose names are not those of their options.
VARIABLES = {"target_session_attrs": "PGTARGETSESSIONATTRS"}
# Seconds and milliseconds (the last one) until a server that is silent counts as gone. Otherwise it
# takes Linux a quarter of an hour.
SILENCE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


# Four services of a host hold about 25 connections, and each process may take 30 for a while.
MIN_CONNECTIONS, MORE_CONNECTIONS = 50, 25
# Those of the code of DAGs among them, which could take all of them from the scheduler otherwise: a
# triggerer for each host, one dag-processor, and commands such as `airflow dags list`.
MIN_OF_DAGS, MORE_OF_DAGS = 30, 10


# The driver of each of Airflow's options. If Airflow derived one from the other, it would need
# another driver.
DRIVERS = {"SQL_ALCHEMY_CONN": "psycopg2", "SQL_ALCHEMY_CONN_ASYNC": "psycopg"}


def login(settings: Settings, user: str) -> DatabaseLogin:
    """The login of a Linux user to an existing PostgreSQL."""
    found = {
        CONTROL_USER: settings.postgres.owner_login,
        DAGS_USER: settings.postgres.dags_login,
    }[user]
    assert found, "the settings of an existing PostgreSQL have both logins"
    return found


def role(settings: Settings, user: str) -> str:
    """The role of a Linux user; the deploy's own has the same name."""
    is_deploys = settings.postgres.is_debians or settings.database_host
    return user if is_deploys else login(settings, user).username


def connections(hosts: int) -> int:
    """The connections that so many hosts of Airflow need at most."""
    return MIN_CONNECTIONS + MORE_CONNECTIONS * max(hosts - 1, 0)


def connections_of_dags(hosts: int) -> int:
    """Those of them that the role of DAGs' code may have."""
    return MIN_OF_DAGS + MORE_OF_DAGS * max(hosts - 1, 0)


def name(settings: Settings) -> str:
    """The database's name."""
    return DATABASE if settings.postgres.is_debians else settings.postgres.database


def _options(settings: Settings, user: str, file: str, authority: str) -> dict[str, str]:
    """Options of libpq that lead to a PostgreSQL elsewhere, beside role and database."""
    servers = settings.postgres.servers
    given = None if settings.database_host else login(settings, user)
    return {
        "host": ",".join(host for host, _ in servers),
        "port": ",".join(str(port) for _, port in servers),
        "sslmode": settings.postgres.sslmode,
        "sslrootcert": authority if has_authority(settings) else TRUSTED,
        **({"passfile": file} if given is None or given.password else {}),
        **({"sslcert": file, "sslkey": file} if given and given.certificate else {}),
        # Of several servers, the one that is no standby.
        "target_session_attrs": "read-write",
        "connect_timeout": "5",
    }


def has_authority(settings: Settings) -> bool:
    """Whether the certificate of a PostgreSQL elsewhere is of an authority that the host does not
    trust anyway."""
    return has_own_authority(settings) or bool(settings.postgres.ca_certificate)


def has_own_authority(settings: Settings) -> bool:
    """Whether the database's host has made the authority of its certificate."""
    return bool(settings.database_host) and not settings.postgres.certificate


def url(driver: str, settings: HostSettings, user: str = CONTROL_USER) -> str:
    """The address of the database for a driver of SQLAlchemy.

    Debian's PostgreSQL knows the role by the Linux user of the process.
    """
    if settings.postgres.is_debians:
        place = f"host=/var/run/postgresql&port={settings.postgres_port}"
        return f"postgresql+{driver}:///{DATABASE}?{place}"
    options = _options(settings, user, DATABASE_LOGINS[user], DATABASE_AUTHORITY) | SILENCE
    query = urlencode(options, safe="/,:", quote_via=quote)
    return f"postgresql+{driver}://{role(settings, user)}@/{name(settings)}?{query}"


def urls_of_dags(settings: HostSettings) -> dict[str, str]:
    """The variables that replace the URLs of airflow.cfg where the code of DAGs runs."""
    if settings.postgres.is_debians:
        return {}
    return {
        f"AIRFLOW__DATABASE__{option}": url(driver, settings, DAGS_USER)
        for option, driver in DRIVERS.items()
    }


def variables(settings: HostSettings, user: str) -> dict[str, str]:
    """The variables with which psql and other clients reach the database as a role."""
    if settings.postgres.is_debians:
        return {"PGCLUSTER": settings.postgres_cluster, "PGDATABASE": DATABASE}
    return remote(settings, user, DATABASE_LOGINS[user], DATABASE_AUTHORITY)


def remote(settings: Settings, user: str, file: str, authority: str) -> dict[str, str]:
    """The same for an existing PostgreSQL, with the login and the authority in these files."""
    options = _options(settings, user, file, authority)
    return {
        "PGDATABASE": name(settings),
        "PGUSER": role(settings, user),
        **{VARIABLES.get(key, f"PG{key.upper()}"): value for key, value in options.items()},
    }


def words(variables: dict[str, str]) -> str:
    """Variables as the arguments of `env`; no value has a blank."""
    return " ".join(f"{key}={value}" for key, value in variables.items())


def packages(settings: HostSettings) -> list[str]:
    """The Debian packages with which the host reaches the database."""
    if settings.postgres.is_debians:
        return [f"postgresql-{settings.postgres.version}"]
    return ["ca-certificates", f"postgresql-client-{settings.postgres.version}"]


def cure(settings: Settings) -> str:
    """The advice to a person when the database does not answer."""
    if settings.postgres.is_debians:
        return "look at systemctl status 'postgresql@*'"
    if settings.database_host:
        return f"look at systemctl status 'postgresql@*' on {settings.database_host}"
    return f"ask the admin of {settings.postgres.place}"


def login_file(given: DatabaseLogin) -> str:
    """The file with a login, as libpq reads it: a password, and a certificate and its key.

    Each of its readers leaves out the lines of the others.
    """
    parts = []
    if given.password:
        escaped = given.password.get_secret_value().replace("\\", "\\\\").replace(":", "\\:")
        parts.append(f"*:*:*:{given.username}:{escaped}")
    if given.certificate and given.key:
        parts += [given.certificate.strip(), given.key.get_secret_value().strip()]
    return "".join(f"{part}\n" for part in parts)
