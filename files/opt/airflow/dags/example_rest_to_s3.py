"""Ask a REST service, keep its answer in S3, and check what is there: each step a pod.

Needs the connections example_rest and example_s3 and the variable example_bucket, which the deploy
makes from the inventory, as in inventories/examples/objects.py.
"""

import json
from urllib.request import Request, urlopen

from airflow.sdk import Connection, Variable, dag, task


@dag(schedule=None, catchup=False, tags=["example"])
def example_rest_to_s3() -> None:
    """Pods get connections and variables over the Execution API; none is in their manifest."""

    @task(retries=2, retry_delay=5)
    def fetch() -> list[dict[str, object]]:
        service = Connection.get("example_rest")
        request = Request(
            f"{service.conn_type}://{service.host}:{service.port}/measurements",
            headers={"Authorization": f"Bearer {service.password}"},
        )
        with urlopen(request, timeout=30) as answer:
            rows: list[dict[str, object]] = json.load(answer)
        print(f"{len(rows)} measurements")
        return rows

    # The hook is imported in the tasks: the DAG processor reads this file every half minute, and
    # has no use for boto3.
    @task
    def store(rows: list[dict[str, object]], run_id: str | None = None) -> str:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        key = f"measurements/{run_id}.json"
        S3Hook("example_s3").load_string(
            json.dumps(rows), key, Variable.get("example_bucket"), replace=True
        )
        return key

    @task
    def check(rows: list[dict[str, object]], key: str) -> int:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        stored = json.loads(S3Hook("example_s3").read_key(key, Variable.get("example_bucket")))
        if stored != rows:
            raise ValueError(f"{key} holds {len(stored)} rows that are not the {len(rows)} asked")
        return len(stored)

    measurements = fetch()
    check(measurements, store(measurements))


example_rest_to_s3()
