"""How processes reach Airflow's database.

Debian's PostgreSQL is reached over its socket, an existing one over TLS. No URL and no variable has
a password: each role's is in a file that only its Linux user may read.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from tasks.layout import CONTROL_USER, DAGS_USER, DATABASE, DATABASE_AUTHORITY, DATABASE_LOGINS
from tasks.settings import HostSettings, Settings
from tasks.settings.types import DatabaseLogin

# Of all authorities that the host trusts. libpq 15 has no word for these.
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


# The driver of each of Airflow's options. Derived from each other they would need another one.
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
    """The role of a Linux user."""
    return user if settings.postgres.is_debians else login(settings, user).username


def name(settings: Settings) -> str:
    """The database's name."""
    return DATABASE if settings.postgres.is_debians else settings.postgres.database


def _options(settings: Settings, user: str, file: str, authority: str) -> dict[str, str]:
    """Options of libpq that lead to an existing PostgreSQL, beside role and database."""
    servers = settings.postgres.servers
    given = login(settings, user)
    return {
        "host": ",".join(host for host, _ in servers),
        "port": ",".join(str(port) for _, port in servers),
        "sslmode": settings.postgres.sslmode,
        "sslrootcert": authority if settings.postgres.ca_certificate else TRUSTED,
        **({"passfile": file} if given.password else {}),
        **({"sslcert": file, "sslkey": file} if given.certificate else {}),
        # Of several servers, the one that is no standby.
        "target_session_attrs": "read-write",
        "connect_timeout": "5",
    }


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
