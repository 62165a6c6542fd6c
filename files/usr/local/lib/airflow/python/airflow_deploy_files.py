"""Which files the dag-processor reads: also those that it may not, so that people learn of them.

Airflow's own heuristic opens a file to look for the words of a DAG. If it may not open the file,
Airflow writes that to the journal alone. Here the file counts as one that may have a DAG, so it
becomes an import error in the page.
"""

from __future__ import annotations

from typing import Any

from airflow.utils.file import might_contain_dag_via_default_heuristic as heuristic


def might_contain_dag(file_path: str, zip_file: Any = None) -> bool:
    """Airflow's option core.might_contain_dag_callable."""
    try:
        return bool(heuristic(file_path, zip_file))
    except OSError:
        return True
