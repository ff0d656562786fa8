"""Which member of a union a frame is, where the class of the message does not say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, PlainSerializer, Tag, WrapSerializer
from pydantic_core import core_schema

from fastws_compat.dependencies.annotations import is_subclass, is_union
from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.members import Members, adapter_of, rebuilt, validators_of
from fastws_compat.messages.names import base_of

# What may stand beside a type without changing the class of its messages.
HARMLESS = (BeforeValidator, PlainSerializer, WrapSerializer)


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
    is_class = is_subclass(kind, BaseModel) or (isinstance(kind, type) and dataclasses.is_dataclass(kind))
    return is_class and not any(map(_may_return_another, validators_of(member)))


def _may_return_another(validator: Any) -> bool:
    """Whether what stands beside a type may make a message of another class of it."""
    return not isinstance(validator, HARMLESS)


def with_choices(members: Members, where: str, namespace: Mapping[str, Any]) -> Any:
    """The type of the JSON messages, whose values are a Choice."""
    for validator in filter(_may_return_another, _beside_unions(members.form)):
        raise DeclarationError(
            f"{where} has handlers=, and {type(validator).__name__} beside several messages, some of which "
            "are no plain classes: write it beside each message, so that the function for a message is found."
        )
    if len(members.json) == 1:
        return Annotated[members.form, _Chosen(members.json[0])]
    return rebuilt(members.form, partial(_with_choice, where), namespace)


def _beside_unions(form: Any) -> Iterator[Any]:
    """The validators beside a union, and beside the unions in it."""
    if is_union(base_of(form)):
        yield from validators_of(form)
        for member in get_args(base_of(form)):
            yield from _beside_unions(member)


def _with_choice(where: str, member: Any) -> Any:
    """A member that validates to a Choice, and has the same name in errors as by itself."""
    if any(isinstance(mark, Tag) for mark in getattr(member, "__metadata__", ())):
        return Annotated[member, _Chosen(member)]
    return Annotated[member, _Chosen(member), Tag(adapter_of(member, where).validator.title)]
