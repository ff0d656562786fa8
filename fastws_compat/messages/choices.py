"""Which member of a union a frame is, where the class of the message does not say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Tag
from pydantic_core import core_schema

from fastws_compat.dependencies.annotations import is_subclass
from fastws_compat.messages.members import Members, adapter_of, rebuilt
from fastws_compat.messages.names import base_of


class Choice(NamedTuple):
    """A message, and the member that it is."""

    member: Any
    message: Any


class _Chosen:
    """Makes a member of a union validate to a Choice."""

    def __init__(self, member: Any) -> None:
        self._member = member

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        schema = handler(source)
        # The metadata has the `Tag` of the member.
        return core_schema.no_info_after_validator_function(
            self._choose, schema, metadata=schema.get("metadata")
        )

    def _choose(self, message: Any) -> Choice:
        return Choice(self._member, message)


def are_classes(members: Members) -> bool:
    """Whether the class of a message says which member it is: not so for a list, a TypedDict or a NewType."""
    return all(map(_is_class, members.json))


def _is_class(member: Any) -> bool:
    kind = base_of(member)
    return is_subclass(kind, BaseModel) or (isinstance(kind, type) and dataclasses.is_dataclass(kind))


def with_choices(members: Members, where: str, namespace: Mapping[str, Any]) -> Any:
    """The type of the JSON messages, whose values are a Choice."""
    if len(members.json) == 1:
        return Annotated[members.form, _Chosen(members.json[0])]
    return rebuilt(members.form, partial(_with_choice, where), namespace)


def _with_choice(where: str, member: Any) -> Any:
    """A member that validates to a Choice, and has the same name in errors as by itself."""
    if any(isinstance(mark, Tag) for mark in getattr(member, "__metadata__", ())):
        return Annotated[member, _Chosen(member)]
    return Annotated[member, _Chosen(member), Tag(adapter_of(member, where).validator.title)]
