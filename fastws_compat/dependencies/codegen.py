"""Generates the function that gathers the keyword arguments of a step.

Everything that a step needs and reads is known when the plan is compiled, so the generated function has no
loops and no lookups left to do for each connection.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

from fastws_compat.dependencies.fields import AnyField
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
    namespace: dict[str, Any] = {f"load_{place}": field.load for place, field in enumerate(fields)}
    namespace |= {"FAILED": FAILED, "scopes": scopes}
    exec(_compiled("\n    ".join(["def gather(solution):", *lines])), namespace)
    gather: Gather = namespace["gather"]
    return gather


@functools.lru_cache
def _compiled(source: str) -> CodeType:
    """Steps with the same parameters share the code, which contains only names and slots."""
    return compile(source, "<arguments of a step>", "exec")


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
    items = {name: f"values[{slot}]" for name, slot in needs.items()}
    items |= {field.name: f"load_{place}({field.source}, errors)" for place, field in enumerate(fields)}
    items |= {name: "websocket" for name, kind in injected.items() if kind == "connection"}
    yield f"arguments = {{{', '.join(f'{name!r}: {value}' for name, value in items.items())}}}"
    if fields:
        # Only this step fails. Its siblings still run, so that all errors are reported together (FastAPI).
        yield "if errors:"
        yield "    return None" if repeats else "    return solution.fail(errors)"
    if needs:
        missing = " or ".join(f"values[{slot}] is FAILED" for slot in needs.values())
        yield f"if solution.errors and ({missing}):"
        yield "    return None"
    for name, kind in injected.items():
        if kind != "connection":
            yield f"arguments[{name!r}] = solution.injected({kind!r}, scopes)"
    yield "return arguments"
