"""Schemas of parameters, which DAGs bring, can't stop services."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from tests.unit import fake

REMOTE = "http://192.0.2.1/schema.json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
LEVELS = 22
# Each part refers twice to the next one.
GROWING = {
    "$ref": "#/$defs/0",
    "$defs": {
        **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(LEVELS)},
        str(LEVELS): {"type": "integer"},
    },
}


class SerializedParam:
    """Airflow's, with its check."""

    def __init__(self, value: Any, schema: Any) -> None:
        self.value, self.schema = value, schema

    def resolve(self, *, raises: bool = False) -> Any:
        try:
            if self.value is ...:
                raise ValueError("No value passed")
            checker = jsonschema.FormatChecker()
            jsonschema.validate(self.value, self.schema, format_checker=checker)
        except Exception:
            if not raises:
                return None
            raise
        return self.value


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that checks parameters, which has changed the class above."""
    monkeypatch.syspath_prepend(fake.FILES / "usr/local/lib/airflow/python")
    monkeypatch.setattr(SerializedParam, "resolve", SerializedParam.resolve)
    module = importlib.import_module("airflow_deploy_params")
    monkeypatch.setattr(module, "SECONDS", 1.0)  # also where other tests take the processor
    module.change(SimpleNamespace(SerializedParam=SerializedParam))
    yield module
    for name in ("airflow_deploy_params", "airflow_deploy_imports"):
        sys.modules.pop(name)


@pytest.mark.usefixtures("params")
@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (3, {"type": "integer", "minimum": 1, "maximum": 3}),
        ("a", {"enum": ["a", "b"]}),
        (None, {"type": ["null", "string"]}),
        (3, {"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}),
        ({"a": 1}, {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"const": 1}}}),
        ({"type": "object"}, {"$ref": DRAFT}),
        ([[], [[]]], {"type": "array", "items": {"$ref": "#"}}),
        # The task checks these.
        ("a" * 16 + "!", {"pattern": "^(a+)+$"}),
        ({"a" * 16 + "!": 1}, {"patternProperties": {"^(a+)+$": {"type": "integer"}}}),
        ({"b": 1}, {"patternProperties": {"a": {}}, "additionalProperties": False}),
        ({"b": 1}, {"patternProperties": {"a": {}}, "unevaluatedProperties": False}),
        ([1, 1], {"uniqueItems": True}),
        ("(", {"format": "regex"}),
        (3, {"$ref": REMOTE}),
        (3, {"$ref": "file:///etc/hostname"}),
        (3, {"allOf": [{"$ref": REMOTE}, {"type": "integer"}]}),
        # A part with a draft of its own, and another draft.
        ({"a": "b"}, {"properties": {"a": {"$schema": DRAFT, "pattern": "c"}}}),
        ("b", {"$schema": "http://json-schema.org/draft-04/schema#", "pattern": "c"}),
        ("b", GROWING),
    ],
    ids=str,
)
def test_a_value_is_right_as_far_as_a_service_checks_it(value: Any, schema: Any) -> None:
    assert SerializedParam(value, schema).resolve(raises=True) == value
    assert SerializedParam(value, schema).resolve() == value


@pytest.mark.usefixtures("params")
@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("3", {"type": "integer"}),
        (0, {"minimum": 1}),
        (4, {"maximum": 3}),
        ("c", {"enum": ["a", "b"]}),
        ("abc", {"maxLength": 2}),
        ("soon", {"format": "date"}),
        ("3", {"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}),
        ("3", {"allOf": [{"$ref": REMOTE}, {"type": "integer"}]}),
        ("3", {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}),
        ({"a": "b"}, {"properties": {"a": {"$schema": DRAFT, "type": "integer"}}}),
        ({"b": 1}, {"additionalProperties": False}),
        ({}, {"required": ["a"]}),
        ([["a"]], {"type": "array", "items": {"$ref": "#"}}),
        ("3", {"type": "nothing"}),
        (..., {}),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(value: Any, schema: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017 (as Airflow's: many)
        SerializedParam(value, schema).resolve(raises=True)
    assert SerializedParam(value, schema).resolve() is None


@pytest.mark.usefixtures("params")
def test_a_wrong_value_has_the_message_of_airflow() -> None:
    with pytest.raises(jsonschema.ValidationError, match="'3' is not of type 'integer'"):
        SerializedParam("3", {"type": "integer"}).resolve(raises=True)


@pytest.mark.usefixtures("params")
@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}], ids=str)
def test_a_schema_that_refers_to_itself_without_end_is_named(schema: Any) -> None:
    with pytest.raises(ValueError, match="its schema refers to itself without end"):
        SerializedParam("3", schema).resolve(raises=True)
    assert SerializedParam("3", schema).resolve() is None


def test_another_airflow_keeps_its_own_check(params: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Other:
        def resolve(self) -> None: ...

    own = Other.resolve
    params.change(SimpleNamespace(SerializedParam=Other))
    assert Other.resolve is own
    assert "has no resolve as 3.3.2 has it" in caplog.text
