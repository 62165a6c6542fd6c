"""Shell in strings of Python, found by its syntax.

A string is shell if it reaches one of these places, by itself or as part of a list or of a name of
the same function or module:

- a keyword argument `test`, `commands` or `command`,
- an argument of `said_by` or `StringCommand`,
- the value of `yield` in an `@operation`, and of `return` in a method `command`.

A string without a space is a value, such as a path. A string in another string counts by itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

KEYWORDS = {"test", "commands", "command"}
CALLS = {"said_by", "StringCommand"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def of(text: str) -> list[str]:
    """The lines of shell in the strings of a module; a value in an f-string is shown as {}."""
    module = ast.parse(text)
    shared = _assigned(module.body)
    found: dict[int, ast.expr] = {}
    for part in _parts(module):
        names = {**shared, **(_assigned([*ast.walk(part)]) if part is not module else {})}
        for place in _places(part):
            found |= {id(each): each for each in _strings(place, names, set())}
    texts = [_text(each) for each in found.values()]
    return [line for text in texts if " " in text for line in text.splitlines() if line.strip()]


def _parts(module: ast.Module) -> list[ast.AST]:
    return [each for each in ast.walk(module) if isinstance(each, Function)] + [module]


def _assigned(nodes: list[ast.stmt] | list[ast.AST]) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for each in nodes:
        if isinstance(each, ast.Assign):
            for target in each.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(each.value)
    return found


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _places(part: ast.AST) -> Iterator[ast.expr]:
    """The values that are commands."""
    name = part.name if isinstance(part, Function) else ""
    decorators = part.decorator_list if isinstance(part, Function) else []
    is_operation = any(isinstance(e, ast.Call) and _name(e.func) == "operation" for e in decorators)
    for node in ast.walk(part):
        runs = isinstance(node, ast.Yield | ast.YieldFrom) and is_operation
        runs |= isinstance(node, ast.Return) and name == "command"
        if isinstance(node, ast.Call):
            yield from (each.value for each in node.keywords if each.arg in KEYWORDS)
            if _name(node.func) in CALLS:
                yield from node.args
        elif isinstance(node, ast.Yield | ast.YieldFrom | ast.Return) and runs and node.value:
            yield node.value


def _strings(
    node: ast.AST, names: Mapping[str, list[ast.expr]], known: set[str]
) -> Iterator[ast.expr]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node
    elif isinstance(node, ast.Name):
        if node.id not in known:
            for each in names.get(node.id, []):
                yield from _strings(each, names, {*known, node.id})
    elif isinstance(node, ast.Call):  # its value is not in this module's strings
        return
    else:
        children = [*ast.iter_child_nodes(node)]
        if isinstance(node, ast.JoinedStr):
            yield node
            children = [e.value for e in node.values if isinstance(e, ast.FormattedValue)]
        for child in children:
            yield from _strings(child, names, known)


def _text(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(e.value) if isinstance(e, ast.Constant) else "{}" for e in parts)
