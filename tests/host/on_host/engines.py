"""Connect with both database URLs of airflow.cfg, or of the variables that replace them.

Needs the venv's Python and Airflow's user.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import sys

from sqlalchemy import create_engine, text  # type: ignore[import-not-found]
from sqlalchemy.ext.asyncio import create_async_engine  # type: ignore[import-not-found]

WHO = text("select current_user")


def connect(url: str) -> str:
    with create_engine(url).connect() as connection:
        return str(connection.scalar(WHO))


async def connect_async(url: str) -> str:
    async with create_async_engine(url).connect() as connection:
        return str(await connection.scalar(WHO))


config = configparser.ConfigParser()
config.read(sys.argv[1])


def url(option: str) -> str:
    variable = f"AIRFLOW__DATABASE__{option.upper()}"
    return os.environ.get(variable) or config["database"][option]


print(
    json.dumps(
        {
            "sync": connect(url("sql_alchemy_conn")),
            "async": asyncio.run(connect_async(url("sql_alchemy_conn_async"))),
        }
    )
)
