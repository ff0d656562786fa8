"""Generates the function that gathers the keyword arguments of a step.

Everything that a step needs and reads is known when the plan is compiled, so the generated function has no
loops and no lookups left to do for each connection.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

from pydantic import ValidationError

from fastws_compat.dependencies.fields import AnyField, ParamField, located
from fastws_compat.dependencies.model import FAILED, Gather
from fastws_compat.dependencies.signature import Injection

SOURCES = {
    "path": "websocket.scope.get('path_params', {})",
    "query": "websocket.query_params",
    "header": "websocket.headers",
    "cookie": "websocket.cookies",
    "body": "{}",
}


def gatherer(
    needs: Mapping[str, int],
    fields: Sequence[AnyField],
    injected: Mapping[str, Injection],
    scopes: tuple[str, ...],
    repeats: bool,
) -> Gather:
    """The function for a step that takes values of other steps (by slot), fields and injected objects.

    A step that `repeats` an earlier one does not report its errors a second time.
    """
    lines = list(_lines(needs, fields, injected, repeats))
    namespace: dict[str, Any] = {"FAILED": FAILED, "scopes": scopes}
    for place, field in enumerate(fields):
        namespace |= _names(place, field)
    exec(_compiled("\n    ".join(["def gather(solution):", *lines])), namespace)
    gather: Gather = namespace["gather"]
    return gather


@functools.lru_cache
def _compiled(source: str) -> CodeType:
    """Steps with the same parameters share the code, which contains only names and slots."""
    return compile(source, "<arguments of a step>", "exec")


def _names(place: int, field: AnyField) -> dict[str, Any]:
    """What the generated code of a field refers to."""
    names: dict[str, Any] = {f"load_{place}": field.load}
    if isinstance(field, ParamField):
        names |= {f"sent_{place}": field.aliases[0].sent, f"loc_{place}": field.loc}
        names |= {f"validate_{place}": field.validate, "ValidationError": ValidationError, "located": located}
    return names


def _reading(place: int, field: AnyField) -> Iterable[str]:
    """The lines that set the variable of a field to its validated value, or add to `errors`."""
    value, load = f"value_{place}", f"load_{place}({field.source}, errors)"
    if not isinstance(field, ParamField) or not field.is_single:
        yield f"{value} = {load}"
        return
    yield f"{value} = {field.source}.get(sent_{place})"
    if field.is_text:
        yield f"if type({value}) is not str: {value} = {load}"
        return
    yield f"if {value} is None: {value} = {load}"
    yield "else:"
    yield f"    try: {value} = validate_{place}({value}, from_attributes=True)"
    yield f"    except ValidationError as exc: errors += located(exc, loc_{place})"


def _lines(
    needs: Mapping[str, int], fields: Sequence[AnyField], injected: Mapping[str, Injection], repeats: bool
) -> Iterable[str]:
    yield "websocket = solution.websocket"
    if needs:
        yield "values = solution.values"
    if fields:
        yield "errors = []"
    for source in dict.fromkeys(field.source for field in fields):
        yield f"{source} = {SOURCES[source]}"
    for place, field in enumerate(fields):
        yield from _reading(place, field)
    items = [f"{name!r}: values[{slot}]" for name, slot in needs.items()]
    items += [f"{field.name!r}: value_{place}" for place, field in enumerate(fields)]
    items += [f"{name!r}: websocket" for name, kind in injected.items() if kind == "connection"]
    yield f"arguments = {{{', '.join(items)}}}"
    yield from _failing(needs, bool(fields), repeats)
    for name, kind in injected.items():
        if kind != "connection":
            yield f"arguments[{name!r}] = solution.injected({kind!r}, scopes)"
    yield "return arguments"


def _failing(needs: Mapping[str, int], has_fields: bool, repeats: bool) -> Iterable[str]:
    if has_fields:
        # Only this step fails. Its siblings still run, so that all errors are reported together (FastAPI).
        yield "if errors:"
        yield "    return None" if repeats else "    return solution.fail(errors)"
    if needs:
        missing = " or ".join(f"values[{slot}] is FAILED" for slot in needs.values())
        yield f"if solution.errors and ({missing}):"
        yield "    return None"
