"""Foreign tokens, tricks with paths, planted links and junk are refused, and nothing happens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from urllib.parse import quote, urlsplit

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, bring_dag
from tests.sandbox.machine import Machine
from tests.support import wait_for

DAG = "e2e_bad_requests"
VARIABLES = ("e2e_requests", "e2e_other", "e2e_written")
AUDIENCE = "urn:airflow.apache.org:task"  # of the Execution API, by default
LONG_AGO, IN_TIME = -3600, 600


@pytest.fixture(scope="module", autouse=True)
def dags(shell: Shell) -> None:
    """The DAGs of these tests."""
    bring_dag("e2e_bad_requests", shell)


def journal(shell: Shell, cursor: str = "") -> tuple[str, str]:
    """The log of nginx and the api-server after a cursor, and the next cursor."""
    after = f"--after-cursor='{cursor}'" if cursor else "-n 0"
    whose = "_SYSTEMD_UNIT=airflow-api-server.service + SYSLOG_IDENTIFIER=nginx"
    said = shell(f"journalctl -q -o cat -a --show-cursor {after} {whose}")
    text, _, cursor = said.rpartition("-- cursor: ")
    return text, cursor


def status_of(log: str, method: str, path: str) -> list[str]:
    """The answers to a request: of the api-server, and of nginx where it did not pass it on."""
    passed = rf"method={method} path={re.escape(path.replace('%2f', '/'))} .*status_code=(\d+)"
    return re.findall(passed, log) + re.findall(rf'"{method} {re.escape(path)} HTTP/\S+ (\d+)', log)


def answered(log: str) -> int:
    """How many requests the two logged."""
    finished = log.count("request finished") + log.count("Invalid HTTP request received")
    return finished + len(re.findall(r'" \d{3} \d+ "', log))


# Tokens, from a pod


def token(key: str, subject: str, seconds: int, algorithm: str = "HS512", **claims: object) -> str:
    """A token for a task, as Airflow makes it, which is valid for so long."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    now = int(time.time())
    begin = min(now, now + seconds) - 60
    times = {"iat": begin, "nbf": begin, "exp": now + seconds}
    payload = {"sub": subject, "aud": AUDIENCE, "scope": "execution", **times, **claims}
    header = {"alg": algorithm, "typ": "JWT", "kid": "not-used"}
    signed = ".".join(part(json.dumps(each).encode()) for each in (header, payload))
    if algorithm == "none":
        return f"{signed}."
    return f"{signed}.{part(hmac.digest(key.encode(), signed.encode(), hashlib.sha512))}"


def set_variable(airflow: Airflow, key: str, value: str) -> None:
    """Make a variable that is not there."""
    airflow.request("POST", "/variables", {"key": key, "value": value})


def remove_variable(airflow: Airflow, key: str) -> bool:
    """Remove a variable; returns whether it was there."""
    try:
        airflow.request("DELETE", f"/variables/{key}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False
    return True


def test_the_execution_api_refuses_requests_for_other_tasks(airflow: Airflow, shell: Shell) -> None:
    _, cursor = journal(shell)
    run = airflow.trigger(DAG)

    def running() -> dict[str, str]:
        tasks = airflow.tasks(DAG, run)
        states = {task["state"] for task in tasks}
        return {t["task_id"]: t["id"] for t in tasks} if states == {"running"} else {}

    ids = wait_for(running, 90, "both tasks run")
    key = shell("sed '1!d; s/^[^=]*=//' /etc/airflow/secrets/jwt-secret")
    # As the task has them itself: the one that its pod began with, and the one got for that.
    first = token(key, ids["ask"], IN_TIME, scope="workload")
    own = token(key, ids["ask"], IN_TIME)
    at, other = "/execution/task-instances", f"/execution/task-instances/{ids['other']}"
    variable, written = "/execution/variables/e2e_requests", "/execution/variables/e2e_written"
    value = {"value": "not to be written"}
    failed = {"state": "failed", "end_date": "2030-01-01T00:00:00Z"}
    start = {
        "state": "running",
        "hostname": "somewhere",
        "unixname": "somebody",
        "pid": 1,
        "start_date": "2030-01-01T00:00:00Z",
    }
    asked: list[tuple[int, str, str, str | None, object]] = [
        # An allowed request: if this were refused too, the rest would prove nothing.
        (200, "GET", variable, own, None),
        (200, "GET", f"{at}/{ids['ask']}/previous-successful-dagrun", own, None),
        # No token, a token that is none, or that only looks like one.
        (401, "GET", variable, None, None),
        (401, "PATCH", f"{other}/state", None, failed),
        (403, "GET", variable, "junk", None),
        (403, "PUT", written, token("somebody's own key" * 4, ids["ask"], IN_TIME), value),
        (403, "PUT", written, token("", ids["ask"], IN_TIME, "none"), value),
        (403, "PATCH", f"{other}/state", token("", ids["other"], IN_TIME, "none"), failed),
        # Signed with the right key, but out of date, or for something else.
        (403, "PUT", written, token(key, ids["ask"], LONG_AGO), value),
        (403, "PATCH", f"{other}/state", token(key, ids["other"], LONG_AGO), failed),
        (403, "PUT", written, token(key, ids["ask"], IN_TIME, aud="apache-airflow"), value),
        (403, "PUT", written, token(key, ids["ask"], IN_TIME, scope="everything"), value),
        # The one that a pod begins with begins its task, which was done, and does no more.
        (403, "GET", variable, first, None),
        (403, "PUT", written, first, value),
        (403, "PATCH", f"{other}/run", first, start),
        (409, "PATCH", f"{at}/{ids['ask']}/run", first, start),
        # The task's own token, for another task.
        (403, "PATCH", f"{other}/state", own, failed),
        (403, "PATCH", f"{other}/run", own, start),
        (403, "PUT", f"{other}/heartbeat", own, {"hostname": "somewhere", "pid": 1}),
        (403, "PUT", f"{other}/rtif", own, {"written": "by another task"}),
        (403, "PATCH", f"{other}/skip-downstream", own, {"tasks": ["other"]}),
        (403, "PUT", f"/execution/store/ti/{ids['other']}/key", own, {"value": "1"}),
        (403, "GET", f"/execution/task-reschedules/{ids['other']}/start_date", own, None),
        # Ids of no task, and text that is no id.
        (403, "PATCH", f"{at}/00000000-0000-7000-8000-000000000000/state", own, failed),
        (400, "PATCH", f"{at}/..%2f..%2f{ids['other']}/state", own, failed),
        # Pods do not reach the REST API.
        (404, "GET", "/api/v2/connections", own, None),
        (404, "POST", "/api/v2/variables", own, {"key": "e2e_written", "value": "x"}),
        (400, "GET", "/execution/../api/v2/connections", first, None),
    ]
    set_variable(airflow, "e2e_requests", json.dumps([each[1:] for each in asked]))
    end = re.compile(r"answers (\[.*\])")
    said = wait_for(lambda: end.findall(airflow.log(DAG, run, "ask")), 90, "all was asked")
    states = {task["task_id"]: task["state"] for task in airflow.tasks(DAG, run)}
    set_variable(airflow, "e2e_other", "go")
    answers = json.loads(said[0])
    wrong = [
        f"{method} {path}: {answer}, not {wanted}"
        for (wanted, method, path, _, _), answer in zip(asked, answers, strict=True)
        if answer != wanted
    ]
    assert wrong == []
    # The other task did not notice, and nothing was written.
    assert states["other"] == "running"
    wait_for(lambda: airflow.run_state(DAG, run) in ("success", "failed"), 60, "the run ends")
    ended = {t["task_id"]: (t["state"], t["try_number"]) for t in airflow.tasks(DAG, run)}
    assert ended == {"ask": ("success", 1), "other": ("success", 1)}
    assert [remove_variable(airflow, key) for key in VARIABLES] == [True, True, False]
    # Each refusal is in the journal, and no token is.
    log, _ = journal(shell, cursor)
    for method, path in {(method, path) for _, method, path, _, _ in asked}:
        wanted = Counter(str(code) for code, m, p, _, _ in asked if (m, p) == (method, path))
        logged = Counter(status_of(log, method, path))
        assert logged >= wanted, (method, path, logged)
    assert "Signature has expired" in log
    assert "Signature verification failed" in log
    assert "The specified alg value is not allowed" in log
    assert "Audience doesn't match" in log
    assert not [each for *_, each, _ in asked if each and len(each) > 20 and each in log]


# Paths


TRICKS = (
    "/api/v2/dags/../../../../../../etc/passwd",
    "/api/v2/dags/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/api/v2/dags/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/api/v2/dags/..%252f..%252fetc%252fpasswd",
    "/api/v2/dags/%2fetc%2fpasswd/dagRuns",
    "/api/v2/dagSources/..%2f..%2fetc%2fpasswd",
    "/api/v2/dags/{dag}/dagRuns/../../../../etc/passwd",
    "/api/v2/dags/{dag}/dagRuns/..%2f..%2f..%2fetc%2fpasswd",
    "/api/v2/dags/{dag}/dagRuns/..%2f..%2f/taskInstances/{task}/logs/1",
    "/api/v2/dags/..%2f{dag}/dagRuns/{run}/taskInstances/{task}/logs/1",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/..%2f..%2fetc%2fpasswd/logs/1",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/..%2f..%2f1",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/-1",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/99",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?map_index=../../etc",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?map_index=7",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?token=../../etc/passwd",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/7/../../../../../../etc/passwd",
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/externalLogUrl/..%2f1",
    "/static/../../../../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/auth/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/log/..%2f..%2fetc%2fpasswd",
    "/../../../../etc/passwd",
    "//etc/passwd",
    # Airflow 3.3.2 would stumble over this one: PostgreSQL takes no such character.
    "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}%00/logs/1",
)


def get(airflow: Airflow, path: str, bearer: str) -> tuple[int, str]:
    """Status and body of the answer to a path as it is, which urllib would tidy up."""
    host = urlsplit(airflow.url).hostname or ""
    connection = http.client.HTTPSConnection(host, timeout=20, context=airflow.trusting)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {bearer}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def bearer(airflow: Airflow) -> str:
    """The token of the administrator, who may see everything in the web page."""
    airflow.request("GET", "/version")
    return airflow.token


@pytest.fixture(scope="module")
def links(airflow: Airflow, shell: Shell) -> tuple[str, str]:
    """A run of the task that plants links, and the folder of its logs."""
    run = airflow.trigger("e2e_links")
    wait_for(
        lambda: airflow.run_state("e2e_links", run) in ("success", "failed"), 90, "the run ends"
    )
    assert airflow.run_state("e2e_links", run) == "success"
    return run, f"/var/log/airflow/dag_id=e2e_links/run_id={run}/task_id=plant"


def test_tricks_with_paths_are_refused(
    links: tuple[str, str], airflow: Airflow, bearer: str, shell: Shell
) -> None:
    names = {"dag": "e2e_links", "run": quote(links[0]), "task": "plant"}
    _, cursor = journal(shell)
    right = "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1".format_map(names)
    assert get(airflow, right, bearer)[0] == 200
    # A path below no known prefix is answered with the page that holds the browser's program.
    page = get(airflow, "/", bearer)
    passwd = shell("head -n 1 /etc/passwd")
    for path in (trick.format_map(names) for trick in TRICKS):
        status, body = get(airflow, path, bearer)
        assert status in (400, 404, 422) or (status, body) == page, (path, status)
        assert passwd not in body, path
    log, _ = journal(shell, cursor)
    assert answered(log) >= len(TRICKS)
    assert "Traceback" not in log
    for name in ("../../etc/e2e", "..%2f..%2fetc", "/etc/e2e", "a b\n"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            wanted = {"logical_date": None, "dag_run_id": name}
            airflow.request("POST", "/dags/e2e_links/dagRuns", wanted)
        assert refused.value.code in (400, 422), name


def test_links_that_a_task_left_lead_nowhere(
    links: tuple[str, str], airflow: Airflow, bearer: str, shell: Shell
) -> None:
    run, folder = links
    planted = shell(f"find '{folder}' -type l -printf '%l\\n'").splitlines()
    outside = sorted({each for each in planted if not each.startswith("/var/log/")})
    assert len(outside) == 5
    path = f"/api/v2/dags/e2e_links/dagRuns/{quote(run)}/taskInstances/plant/logs/1"
    status, body = get(airflow, f"{path}?full_content=true", bearer)
    assert status == 200
    # One within the folder is followed: so the others would be seen.
    assert "a line of a file among the logs" in body
    # Files that the api-server itself may read.
    for target in ("/etc/airflow/kubeconfig", "/etc/airflow/airflow.cfg", "/etc/passwd"):
        assert target in outside
        lines = shell(f"runuser -u airflow -- cat {target}").splitlines()
        words = {word for line in lines for word in line.split() if len(word) > 20}
        assert words
        assert not [word for word in words if word in body.replace(target, "")], target
    # Words of the api-server's environment.
    names = ("fernet-key", "jwt-secret", "api-secret-key")
    for secret in shell(
        f"cd /etc/airflow/secrets && sed -s '1!d; s/^[^=]*=//' {' '.join(names)}"
    ).split():
        assert secret not in body


# Junk


TABLES = ("connection", "variable", "slot_pool", "ab_user", "ab_role", "dag_run", "xcom")
STATE = "cd / && runuser -u postgres -- psql -XAtqd airflow -v ON_ERROR_STOP=1 " + " ".join(
    f"-c \"select '{table}', md5(string_agg(x::text, chr(10) order by x::text)) from {table} x\""
    for table in TABLES
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "BREW")
REAL = (
    "/api/v2/variables",
    "/api/v2/connections",
    "/api/v2/pools/default_pool",
    "/api/v2/dags/e2e_links",
    "/api/v2/dags/e2e_links/dagRuns",
    "/api/v2/config",
    "/execution/variables/e2e_written",
    "/execution/connections/any",
    "/execution/xcoms/e2e_links/run/task/key",
    "/auth/token",
    "/auth/login/",
    "/ui/dashboard/dag_stats",
)
WHOLE = 900  # requests that must be answered, of the web port
HALF = 100  # that only begin, and are held open
AT_ONCE = 8


def whole(random: Random) -> bytes:
    """A request that its server can tell to be complete, or to be none."""
    method = random.choice(METHODS)
    path = random.choice(
        (
            random.choice(REAL),
            f"{random.choice(REAL)}/{quote(random.randbytes(12))}",
            "/" + quote(random.randbytes(random.randrange(40))),
            "/" + "a/" * random.randrange(2000),
            f"{random.choice(REAL)}?{quote(random.randbytes(30))}=%00&limit=-{random.random()}",
        )
    )
    body = random.choice((b"", b"{", b"[" * 5000, b'{"key":"e2e_written","value":"x"}'))
    body = random.choice((body, random.randbytes(random.randrange(3000))))
    headers = [
        "Host: " + random.choice(("localhost", "..", "a" * 300, "[::1")),
        "Connection: close",
        f"Content-Length: {len(body)}",
        "Content-Type: " + random.choice(("application/json", "text/xml", "multipart/form-data")),
        random.choice(
            (
                f"Authorization: Bearer {random.randbytes(40).hex()}",
                "Authorization: Basic YWRtaW46YWRtaW4=",
                f"Cookie: _token={'.'.join(random.randbytes(9).hex() for _ in range(3))}",
                f"X-Junk: {'x' * random.randrange(60000)}",
                "Content-Encoding: gzip",
                "Airflow-API-Version: 1999-01-01",
            )
        ),
    ]
    text = f"{method} {path} HTTP/1.1\r\n" + "\r\n".join(headers)
    return random.choice(
        (
            text.encode() + b"\r\n\r\n" + body,
            text.encode() + b"\r\n\r\n" + body,
            text.encode() + b"\r\n\r\n" + body,
            text.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x16\x03\x01" + random.randbytes(200),  # as TLS begins
            b"\xff" + random.randbytes(random.randrange(1, 5000)),
        )
    )


def connected(
    address: str, port: int, seconds: float, context: ssl.SSLContext | None
) -> socket.socket:
    """A connection, over TLS if an authority is given."""
    plain = socket.create_connection((address, port), timeout=seconds)
    return context.wrap_socket(plain, server_hostname=address) if context else plain


def ask(
    address: str,
    port: int,
    request: bytes,
    seconds: float = 20,
    context: ssl.SSLContext | None = None,
) -> int:
    """Status of the answer to these bytes; 0 if there was none in time."""
    with connected(address, port, seconds, context) as connection:
        try:
            connection.sendall(request)
            answer = connection.recv(4096)
        except OSError:  # it hung up, or waits for more
            return 0
    found = re.match(rb"HTTP/1\.. (\d{3}) ", answer)
    return int(found[1]) if found else 0


def stumbled(request: bytes, status: int) -> bool:
    """Whether an error of the server is the one known of Airflow 3.3.2: text that is not UTF-8."""
    head, _, body = request.partition(b"\r\n\r\n")
    try:
        body.decode()
    except UnicodeDecodeError:
        return status == 500 and head.startswith(b"POST /auth/token HTTP")
    return False


def resident(shell: Shell, pid: str) -> int:
    """Bytes of memory that a process and its children hold."""
    return 1024 * sum(map(int, shell(f"ps -o rss= -p {pid} --ppid {pid}").split()))


def test_a_thousand_junk_requests_do_nothing(
    airflow: Airflow, machine: Machine, shell: Shell
) -> None:
    main_pid = "systemctl show -P MainPID airflow-api-server"
    pid, before = shell(main_pid), shell(STATE)
    memory = resident(shell, pid)
    _, cursor = journal(shell)
    random = Random(1)  # the same junk each time
    held: list[socket.socket] = []
    try:
        for _ in range(HALF):
            held.append(connected(machine.address, 443, 20, airflow.trusting))
            request = whole(random)
            held[-1].sendall(request[: random.randrange(1, 30)].replace(b"\r\n", b""))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            requests = [whole(random) for _ in range(WHOLE)]
            asking = partial(ask, machine.address, 443, context=airflow.trusting)
            each = list(pool.map(asking, requests))
        # While the others are still open.
        assert set(airflow.health().values()) == {"healthy"}
    finally:
        for connection in held:
            connection.close()
    answers = Counter(each)
    assert answers[0] == 0, "each was answered"
    errors = [(r, code) for r, code in zip(requests, each, strict=True) if code >= 500]
    assert [error for error in errors if not stumbled(*error)] == [], answers
    refused = sum(number for code, number in answers.items() if code >= 400)
    assert refused > WHOLE / 2, answers
    log, _ = journal(shell, cursor)
    assert answered(log) >= WHOLE
    assert shell(main_pid) == pid
    assert shell(STATE) == before
    # A request may leave something in a cache, but not its content.
    assert resident(shell, pid) - memory < 100 * 2**20
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_junk_at_the_ports_of_the_cluster_does_nothing(machine: Machine, shell: Shell) -> None:
    lines = shell("ss -Hltn | awk '{print $4}'").splitlines()
    open_to_all = [line for line in lines if not line.startswith(("127.", "[::1]"))]
    ports = {int(line.rpartition(":")[2]) for line in open_to_all} - {22}
    assert {443, 8081, 8443, 10250} <= ports
    random = Random(2)
    for port in sorted(ports):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            requests = [whole(random) for _ in range(30)]
            answers = set(pool.map(partial(ask, machine.address, port, seconds=2), requests))
        assert not [code for code in answers if code >= 500], (port, answers)
    # Without a login even a well-formed request gets nothing.
    for port, path, wanted in (
        (8443, "/api/v1/namespaces/airflow/secrets", 403),
        (8443, "/api/v1/namespaces/airflow/pods", 403),
        (10250, "/pods", 401),
        (10250, "/exec/airflow/any/base?command=id", 401),
    ):
        context = ssl._create_unverified_context()  # the address is not in it
        connection = http.client.HTTPSConnection(machine.address, port, timeout=20, context=context)
        connection.request("GET", path)
        assert connection.getresponse().status == wanted, (port, path)
        connection.close()
    assert shell("kubectl get --raw /readyz") == "ok"
