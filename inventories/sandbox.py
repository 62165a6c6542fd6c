"""The throwaway machine that ./tests/sandbox/up makes.

Its settings are the defaults, except for what a machine inside a container needs that can't reach
the official downloads.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.sandbox import inventory

hosts = [inventory.host(os.environ.get("AIRFLOW_SANDBOX", "airflow-sandbox"))]
