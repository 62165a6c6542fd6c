"""Check a host that the deploy ran on: anybody's own one, too, since nothing is changed there.

pytest tests/host --hosts=ssh://root@my-server, or --hosts=local:// as root on the host itself.
AIRFLOW_INVENTORY names the inventory that the host was deployed with, if not inventories/local.py.
"""
