"""The throwaway machine that ./tests/sandbox/up makes; its settings are the defaults but for what a
machine inside a container, without the official downloads, needs."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.sandbox import inventory

hosts = [inventory.host(os.environ.get("AIRFLOW_SANDBOX", "airflow-sandbox"))]
