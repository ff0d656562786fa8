"""Writes the function that gathers what a step is called with.

All that a step needs and reads is known when it is compiled, so that nothing is left to loop over or to look
up when a connection comes.
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
    "path": "websocket.path_params",
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
    """The function for a step with the values of other steps by their slots, fields and injected objects.

    One that `repeats` another finds the errors that are listed already.
    """
    lines = list(_lines(needs, fields, injected, repeats))
    namespace: dict[str, Any] = {f"load_{place}": field.load for place, field in enumerate(fields)}
    namespace |= {"FAILED": FAILED, "scopes": scopes}
    exec(_compiled("\n    ".join(["def gather(solution):", *lines])), namespace)
    gather: Gather = namespace["gather"]
    return gather


@functools.lru_cache
def _compiled(source: str) -> CodeType:
    """Endpoints that take the same share it: it says no more than names and slots."""
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
        # A step fails with errors only; siblings still run, so that theirs are listed too (FastAPI).
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
