"""Whether a deployed host is as it is to be: reads only, for any host that the deploy ran on.

pytest tests/host --hosts=ssh://root@my-server, or --hosts=local:// as root on the host itself.
AIRFLOW_INVENTORY names the inventory that the host was deployed with, if not inventories/local.py.
"""
