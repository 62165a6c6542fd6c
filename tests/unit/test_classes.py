"""Tasks can't choose the classes of which services make objects."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit import fake

# As airflow.sdk.serde writes them.
TIME = {"__classname__": "datetime.timedelta", "__version__": 2, "__data__": 60.0}
OTHER = {"__classname__": "airflow.models.dag.DagModel", "__version__": 1, "__data__": {}}
PLAIN: list[Any] = [None, {}, {"a": [1, TIME]}, {"__type": "dict", "__var": {"a": 1}}]
FOREIGN: list[Any] = [
    OTHER,
    {"a": {"b": [[OTHER]]}},
    {"a": {**TIME, "__data__": OTHER}},
    {"__type": "airflow.models.dag.DagModel", "__var": {}},
    {"__type": "dict", "__var": {"a": {"__type": "airflow_exc_ser", "__var": {}}}},
]


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that looks at classes."""
    monkeypatch.syspath_prepend(fake.FILES / "usr/local/lib/airflow/python")
    yield importlib.import_module("airflow_deploy_classes")
    for name in ("airflow_deploy_classes", "airflow_deploy_imports"):
        sys.modules.pop(name)


@pytest.mark.parametrize("value", PLAIN, ids=str)
def test_plain_arguments_stay_as_they_are(classes: Any, value: Any) -> None:
    assert submitted(classes, value) == value
    assert converted(classes, value) == "converted"


@pytest.mark.parametrize("value", FOREIGN, ids=str)
def test_arguments_of_other_classes_make_no_object(classes: Any, value: Any) -> None:
    seen = submitted(classes, value)
    # Airflow says of which type it can't make an object.
    assert seen.keys() == {"__type", "__var"} and not seen["__var"]
    assert seen["__type"].startswith("object of ")
    assert "may not be among the arguments" in seen["__type"]
    assert converted(classes, value) == value


def submitted(classes: Any, value: Any) -> Any:
    """The arguments of a task that Airflow's own function sees."""
    seen: list[Any] = []

    def own(event: Any, *, task_instance: Any, session: Any) -> None:
        seen.append(task_instance.next_kwargs)

    module = SimpleNamespace(handle_event_submit=own)
    classes.change_answers(module)
    task = SimpleNamespace(next_kwargs=value)
    module.handle_event_submit("yes", task_instance=task, session=None)
    return seen[0]


def converted(classes: Any, value: Any) -> Any:
    """The arguments in a response to an old worker."""

    def own(response: Any) -> None:
        response.body["next_kwargs"] = "converted"

    conversion = SimpleNamespace(transformer=own)
    version = SimpleNamespace(convert_next_kwargs_to_base_serialization=conversion)
    classes.change_old_version(SimpleNamespace(ModifyDeferredTaskKwargsToJsonValue=version))
    response = SimpleNamespace(body={"next_kwargs": value})
    conversion.transformer(response)
    return response.body["next_kwargs"]


def test_another_airflow_keeps_its_own_functions(
    classes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def own(event: Any) -> None: ...

    module = SimpleNamespace(handle_event_submit=own)
    classes.change_answers(module)
    classes.change_old_version(SimpleNamespace())
    assert module.handle_event_submit is own
    assert len(caplog.messages) == 2
