"""Tasks and DAGs can't choose the classes of which services make objects."""

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
# A deadline of a DAG, in the parts that Airflow makes objects of.
LATER = {"__classname__": "airflow.sdk.definitions.deadline.VariableInterval", "__version__": 0}


def callback(kind: str, arguments: Any) -> Any:
    """The callback of a deadline with these arguments."""
    name = f"airflow.sdk.definitions.callback.{kind}"
    data = {"path": "a.b", "kwargs": arguments}
    return {"__classname__": name, "__version__": 0, "__data__": data}


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


@pytest.mark.parametrize("kind", ["AsyncCallback", "SyncCallback"])
@pytest.mark.parametrize("interval", [60.0, TIME, LATER], ids=str)
@pytest.mark.parametrize("arguments", PLAIN, ids=str)
def test_a_deadline_of_plain_objects_is_made(
    classes: Any, kind: str, interval: Any, arguments: Any
) -> None:
    data = {"reference": {}, "interval": interval, "callback": callback(kind, arguments)}
    assert decoded(classes, {"__type": "deadline_alert", "__var": data}) == "made"
    assert decoded(classes, data) == "made"


@pytest.mark.parametrize(
    ("interval", "called"),
    [
        *((TIME, callback("AsyncCallback", each)) for each in FOREIGN),
        (TIME, callback("AsyncCallbackOther", {})),
        (TIME, OTHER),
        (OTHER, callback("AsyncCallback", {})),
    ],
    ids=str,
)
def test_a_deadline_of_other_classes_is_not_made(
    classes: Any, monkeypatch: pytest.MonkeyPatch, interval: Any, called: Any
) -> None:
    data = {"reference": {}, "interval": interval, "callback": called}
    with pytest.raises(TypeError, match="a deadline has an object of airflow"):
        decoded(classes, {"__type": "deadline_alert", "__var": data})
    # The policy says the same where the DAG is read.
    encoders = SimpleNamespace(encode_deadline_alert=lambda alert: alert)
    monkeypatch.setitem(sys.modules, "airflow.serialization.encoders", encoders)
    assert classes.objection_to_deadline(data).startswith("a deadline has an object of airflow")


def decoded(classes: Any, value: Any) -> Any:
    """The deadline that Airflow's own function makes."""

    def own(encoded_data: Any) -> str:
        return "made"

    module = SimpleNamespace(decode_deadline_alert=own)
    classes.change_rows(module)
    return module.decode_deadline_alert(value)


def test_another_airflow_keeps_its_own_functions(
    classes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def own(event: Any) -> None: ...

    module = SimpleNamespace(handle_event_submit=own)
    classes.change_answers(module)
    classes.change_old_version(SimpleNamespace())
    classes.change_rows(SimpleNamespace())
    assert module.handle_event_submit is own
    assert len(caplog.messages) == 3
