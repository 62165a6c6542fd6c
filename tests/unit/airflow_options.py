"""Print the options of the Airflow beside this Python, and of its providers, for
airflow_options.txt: a secret one has *, and < is before its former name, which Airflow still reads.
The first lines name the packages that describe them.

uv run --isolated --only-group airflow python tests/unit/airflow_options.py > \
    tests/unit/airflow_options.txt
"""

from importlib.metadata import version

from airflow.configuration import conf, retrieve_configuration_description
from airflow.providers_manager import ProvidersManager

providers = ProvidersManager()
described = {"apache-airflow-core"}
for name, provider in providers.providers.items():
    if provider.data.get("config"):
        described.add(name)
for name in sorted(described):
    print(f"# {name}=={version(name)}")
for section, content in sorted(retrieve_configuration_description().items()):
    for option in sorted(content["options"]):
        mark = "*" if (section, option) in conf.sensitive_config_values else ""
        old = conf.deprecated_options.get((section, option))
        print(f"{section} {option}{mark}", *(["<", *old[:2]] if old else []))
