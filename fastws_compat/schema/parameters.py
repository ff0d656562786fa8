"""What a handshake carries, by the names under which it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, to_jsonable_python

from fastws_compat.dependencies.fields import AnyField, ModelField, ParamField, adapter_for
from fastws_compat.dependencies.model import Plan
from fastws_compat.params import Source


@dataclass(frozen=True, eq=False)
class Parameter:
    """One value of the path, the query, a header or a cookie."""

    source: Source
    name: str
    required: bool
    info: FieldInfo

    @property
    def core_schema(self) -> CoreSchema:
        return adapter_for(self.info).core_schema

    @property
    def examples(self) -> list[Any]:
        """The examples of its declaration, as JSON."""
        one = getattr(self.info, "example", None)
        found = self.info.examples or ([] if one is None else [one])
        return list(to_jsonable_python(found, fallback=str))


def parameters_of(plan: Plan) -> list[Parameter]:
    """The parameters of an endpoint and of all its dependencies, each once."""
    found: dict[tuple[Source, str], Parameter] = {}
    for step in (plan.endpoint, *plan.steps):
        for parameter in _parameters(step.fields):
            found.setdefault((parameter.source, parameter.name), parameter)
    return list(found.values())


def _parameters(fields: Iterable[AnyField]) -> Iterator[Parameter]:
    for field in fields:
        if isinstance(field, ParamField) and field.info.include_in_schema:
            yield Parameter(field.source, field.aliases[0].sent, field.default.required, field.info)
        elif isinstance(field, ModelField):
            yield from _of_model(field)


def _of_model(field: ModelField) -> Iterator[Parameter]:
    for part in field.parts:
        info = field.model.model_fields[part.name]
        if getattr(info, "include_in_schema", True):
            required = info.is_required() and not field.optional
            yield Parameter(field.source, part.aliases[0].sent, required, info)
