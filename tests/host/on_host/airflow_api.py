"""Ask Airflow's REST API: URL, user, file of its password, file of the JWT secret, DAGs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

URL, USER, PASSWORD_FILE, JWT_SECRET_FILE, *DAGS = sys.argv[1:]


def request(path: str, body: object = None, token: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(
        urllib.request.Request(URL + path, data, headers), timeout=20
    ) as answer:
        return json.load(answer)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signed_with(key: bytes, token: str) -> bool:
    """Whether this key signed the token: https://www.rfc-editor.org/rfc/rfc7515#section-7.1"""
    signed, _, signature = token.rpartition(".")
    algorithm = json.loads(decoded(signed.partition(".")[0]))["alg"].replace("HS", "sha")
    made = hmac.new(key, signed.encode(), getattr(hashlib, algorithm)).digest()
    return hmac.compare_digest(made, decoded(signature))


def dag(name: str, token: str) -> Any:
    try:
        return request(f"/api/v2/dags/{name}", token=token)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None


def main() -> None:
    login = {"username": USER, "password": Path(PASSWORD_FILE).read_text().strip()}
    token = request("/auth/token", login)["access_token"]
    key = Path(JWT_SECRET_FILE).read_text().split()[0].partition("=")[2].encode()
    errors = request("/api/v2/importErrors?limit=500", token=token)["import_errors"]
    answer = {
        "version": request("/api/v2/version")["version"],
        "health": request("/api/v2/monitor/health"),
        "signed_with_jwt_secret": signed_with(key, token),
        "signed_with_empty_key": signed_with(b"", token),
        "dags": {name: dag(name, token) for name in DAGS},
        "import_errors": {error["filename"]: error["stack_trace"] for error in errors},
    }
    print(json.dumps(answer))


main()
