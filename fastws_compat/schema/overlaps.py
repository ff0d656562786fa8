"""Unions without a tag whose messages cannot be told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations
from typing import Any

from pydantic import TypeAdapter

from fastws_compat.messages.contract import Contract
from fastws_compat.messages.members import Members, adapter_of, is_told_apart, name_of_type
from fastws_compat.schema.definitions import generate
from fastws_compat.schema.examples import Maker, NoExample


def overlaps(contract: Contract) -> Iterator[tuple[str, str, str]]:
    """The direction (takes or sends), a message, and another one that it can be mistaken for.

    Only overlaps that an example proves are found.
    """
    for verb, members in (("takes", contract.incoming.members), ("sends", contract.outgoing.members)):
        if not is_told_apart(members):
            for first, second in _overlapping(members):
                yield verb, name_of_type(first), name_of_type(second)


def _overlapping(members: Members) -> Iterator[tuple[Any, Any]]:
    adapters = [adapter_of(member, "A route") for member in members.json]
    examples = dict(_examples(adapters))
    seen: set[frozenset[int]] = set()
    for first, second in permutations(range(len(adapters)), 2):
        pair = frozenset((first, second))
        if first in examples and pair not in seen and _fits(adapters[second], examples[first]):
            seen.add(pair)
            yield members.json[first], members.json[second]


def _examples(adapters: list[TypeAdapter[Any]]) -> Iterator[tuple[int, str]]:
    """A valid message for each type that has an example, by position."""
    inputs = ((number, "validation", adapter.core_schema) for number, adapter in enumerate(adapters))
    found, schemas, _ = generate(inputs)
    for number, adapter in enumerate(adapters):
        try:
            example = json.dumps(Maker(schemas).make(found[number, "validation"]))
        except NoExample:
            continue
        if _fits(adapter, example):
            yield number, example


def _fits(adapter: TypeAdapter[Any], example: str) -> bool:
    try:
        adapter.validate_json(example)
    except ValueError:
        return False
    return True
