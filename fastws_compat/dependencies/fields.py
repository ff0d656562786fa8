"""Fields: what a parameter reads from the handshake, and how the value is validated."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.warnings import UnsupportedFieldAttributeWarning
from pydantic_core import PydanticUndefined

from fastws_compat.datastructures import Headers, ImmutableMultiDict
from fastws_compat.dependencies.annotations import is_sequence, is_subclass, model_of
from fastws_compat.params import Declaration, Header, Path

Errors = list[dict[str, Any]]
Loc = tuple[str | int, ...]

UNCHANGING = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)


class Alias(NamedTuple):
    """A name of a value: `key` for pydantic, and `sent` in the handshake."""

    key: str
    sent: str


class ParamField:
    """A parameter whose value is in the path, the query, a header or a cookie."""

    __slots__ = (
        "aliases",
        "default",
        "info",
        "is_single",
        "is_text",
        "json",
        "many",
        "name",
        "source",
        "validate",
    )

    def __init__(self, name: str, param: Declaration) -> None:
        self.name = name
        self.source = param.source
        self.info = param
        self.aliases = aliases_of(name, self.info, literal=isinstance(param, Path))
        self.many = is_sequence(self.info.annotation)
        self.json = is_json(self.info)
        self.default = Default(self.info)
        adapter = adapter_for(self.info)
        self.validate = adapter.validator.validate_python
        # One value under one name, by far the most frequent case: generated code reads it by itself. It takes
        # a text as it was sent, and validates anything else.
        self.is_single = len(self.aliases) == 1 and not self.many
        self.is_text = takes_every_text(adapter)

    @property
    def loc(self) -> Loc:
        """Where a single value was sent, for the items of errors."""
        return (self.source, self.aliases[0].sent)

    def load(self, values: Mapping[str, Any], errors: Errors) -> Any:
        """The validated value out of `values`; adds to `errors` what does not fit."""
        alias = sent_alias(self.aliases, values)
        value = value_of(values, alias.sent, self.many, self.json)
        return self.default.validate_or_default(value, self.validate, (self.source, alias.sent), errors)


class ModelField:
    """A parameter model: a pydantic model that is filled from all query parameters, headers or cookies."""

    __slots__ = ("default", "model", "name", "optional", "parts", "source", "validate")

    def __init__(self, name: str, param: Declaration, model: type[BaseModel]) -> None:
        self.name = name
        self.source = param.source
        self.model = model
        self.optional = param.annotation is not model
        dashes = param.convert_underscores if isinstance(param, Header) else None
        self.parts = [Part(part, info, model, dashes) for part, info in model.model_fields.items()]
        self.validate = adapter_for(param).validator.validate_python
        self.default = Default(param)

    def load(self, values: Mapping[str, Any], errors: Errors) -> Any:
        """The model filled from `values`. Validation errors are added to `errors`."""
        headers = isinstance(values, Headers)
        data: dict[str, Any] = {}
        taken: set[str] = set()
        renamed: dict[str | int, str] = {}
        for part in self.parts:
            alias = sent_alias(part.aliases, values)
            value = value_of(values, alias.sent, part.many, part.json)
            if value is not PydanticUndefined:
                data[alias.key] = value
            taken.update(part.taken(alias) if headers else (alias.sent,))
            if headers and alias.key != alias.sent:
                renamed[part.name] = alias.sent
        data.update(_extras(values, taken))
        value = PydanticUndefined if self._absent(values, data) else data
        found: Errors = []
        result = self.default.validate_or_default(value, self.validate, (self.source,), found)
        if found:
            errors += self._as_sent(found, renamed)
        return result

    def _absent(self, values: Mapping[str, Any], data: dict[str, Any]) -> bool:
        """`Model | None` is None if none of its fields was sent, unless extras matter to the model."""
        if not self.optional or any(alias.sent in values for part in self.parts for alias in part.aliases):
            return False
        return not (data and self.model.model_config.get("extra") in ("allow", "forbid"))

    def _as_sent(self, errors: Errors, renamed: dict[str | int, str]) -> Errors:
        """Use the names of headers as they are sent, not those of the model."""
        if self.model.model_config.get("loc_by_alias", True):
            for error in errors:
                source, *rest = error["loc"]
                if rest and rest[0] in renamed:
                    error["loc"] = (source, renamed[rest[0]], *rest[1:])
        return errors


class Part:
    """One field of a parameter model."""

    __slots__ = ("aliases", "json", "many", "name")

    def __init__(self, name: str, info: FieldInfo, model: type[BaseModel], dashes: bool | None) -> None:
        if dashes is not None and isinstance(info, Header):  # a marker in the model decides for its field
            dashes = info.convert_underscores
        self.name = name
        self.aliases = aliases_of(name, info, config=_config_for(info, model), dashes=bool(dashes))
        self.many = is_sequence(info.annotation)
        self.json = is_json(info)

    def taken(self, alias: Alias) -> Iterator[str]:
        """The header names that do not count as extras after this part was read under `alias`."""
        yield alias.sent.lower()
        # If a header's name has dashes, the spelling with underscores is not an extra either.
        yield from (other.key.lower() for other in self.aliases if other.key != other.sent)


class BodyField:
    """A parameter of the body, which a handshake does not have: an error if required, else the default."""

    __slots__ = ("default", "loc", "name", "validate")

    def __init__(self, name: str, param: Declaration, loc: Loc) -> None:
        self.name = name
        self.loc = loc
        self.validate = adapter_for(param).validator.validate_python
        self.default = Default(param)

    source = "body"

    def load(self, values: Mapping[str, Any], errors: Errors) -> Any:
        return self.default.validate_or_default(PydanticUndefined, self.validate, self.loc, errors)


AnyField = ParamField | ModelField | BodyField


class Default:
    """The value of a field that was not sent."""

    __slots__ = ("constant", "info", "required", "validated")

    def __init__(self, info: FieldInfo) -> None:
        self.info = info
        self.required = info.is_required()
        self.validated = bool(info.validate_default)
        # The default is copied for each connection unless it is immutable.
        self.constant = info.default_factory is None and isinstance(info.default, UNCHANGING)

    def validate_or_default(self, value: Any, validate: Any, loc: Loc, errors: Errors) -> Any:
        """The validated `value`, or the default if there is none; None if an error was added to `errors`."""
        if value is PydanticUndefined:
            if self.required:
                errors.append(missing(loc))
                return None
            value = self._value()
            if not self.validated:
                return value
        try:
            return validate(value, from_attributes=True)
        except ValidationError as exc:
            errors += located(exc, loc)
            return None

    def _value(self) -> Any:
        if self.constant:
            return self.info.default
        return copy.deepcopy(self.info.get_default(call_default_factory=True))


def located(exc: ValidationError, loc: Loc) -> Errors:
    """Pydantic's error items, with `loc` in front of their locations."""
    return [{**error, "loc": loc + error["loc"]} for error in exc.errors(include_url=False)]


def missing(loc: Loc) -> dict[str, Any]:
    """FastAPI's error item for a required value that was not sent."""
    return {"type": "missing", "loc": loc, "msg": "Field required", "input": None}


def field_for(name: str, param: Declaration) -> ParamField | ModelField:
    """The field for a parameter in the path, the query, a header or a cookie."""
    annotation = param.annotation
    model = annotation if isinstance(param, Path) else model_of(annotation)
    if is_subclass(model, BaseModel) and not is_json(param):
        return ModelField(name, param, model)
    return ParamField(name, param)


def adapter_for(info: FieldInfo) -> TypeAdapter[Any]:
    """The compiled validator of a field, from its annotation, constraints and options."""
    spec = info.asdict()
    options = Field(**spec["attributes"])
    annotated: Any = Annotated[(spec["annotation"], *spec["metadata"], options)]  # noqa: F821
    with warnings.catch_warnings():
        # Pydantic warns that an alias has no effect outside a model. This library applies the alias itself.
        warnings.simplefilter("ignore", category=UnsupportedFieldAttributeWarning)
        return TypeAdapter(annotated)


def takes_every_text(adapter: TypeAdapter[Any]) -> bool:
    """Whether validation returns every string unchanged, so that it can be skipped for strings."""
    schema: Any = adapter.core_schema
    while schema["type"] in ("default", "nullable"):
        schema = schema["schema"]
    return {key for key in schema if key != "metadata"} == {"type"} and schema["type"] == "str"


def is_json(info: FieldInfo) -> bool:
    return any(type(item) is Json for item in info.metadata)


def aliases_of(
    name: str,
    info: FieldInfo,
    *,
    config: ConfigDict | None = None,
    literal: bool = False,
    dashes: bool = False,
) -> tuple[Alias, ...]:
    """The names of a field, in the order in which they are tried."""
    first = _first_alias(name, info, dashes)
    if literal or _has_alias_path(info.validation_alias):
        return (first,)
    by_name = Alias(name, name.replace("_", "-") if dashes else name)
    config = config or {}
    if config.get("validate_by_alias") is False:
        return (by_name,)
    aliases = _choices(first, info)
    takes_name = config.get("validate_by_name", config.get("populate_by_name", False))
    return (*aliases, by_name) if takes_name and name not in [alias.key for alias in aliases] else aliases


def _choices(first: Alias, info: FieldInfo) -> tuple[Alias, ...]:
    if not isinstance(info.validation_alias, AliasChoices):
        return (first,)
    return tuple(Alias(key, key) for key in info.validation_alias.choices if isinstance(key, str))


def _first_alias(name: str, info: FieldInfo, dashes: bool) -> Alias:
    key = info.validation_alias if isinstance(info.validation_alias, str) else None
    key = key or info.alias or name
    return Alias(key, key.replace("_", "-") if dashes and key == name else key)


def _has_alias_path(alias: object) -> bool:
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return any(isinstance(choice, AliasPath) for choice in choices)


def sent_alias(aliases: tuple[Alias, ...], values: Mapping[str, Any]) -> Alias:
    """The first alias that was sent, or else the first one."""
    if len(aliases) == 1:
        return aliases[0]
    return next((alias for alias in aliases if alias.sent in values), aliases[0])


def value_of(values: Mapping[str, Any], name: str, many: bool, json: bool) -> Any:
    """The value or values sent under `name`, or PydanticUndefined."""
    if not many:
        value = values.get(name)
        return PydanticUndefined if value is None else value
    if not json and isinstance(values, (ImmutableMultiDict, Headers)):
        return values.getlist(name) or PydanticUndefined
    return values.get(name) or PydanticUndefined


def _config_for(info: FieldInfo, model: type[BaseModel]) -> ConfigDict | None:
    """The model's configuration, which FastAPI applies to fields that are not models themselves."""
    nested = is_subclass(info.annotation, (BaseModel, dict)) or is_dataclass(info.annotation)
    return None if nested else model.model_config


def _extras(values: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    """The values that were sent and are not fields of the model; repeated names give lists."""
    if isinstance(values, ImmutableMultiDict):
        items: Any = values.multi_items()
    else:
        items = values.items()
    grouped: dict[str, list[Any]] = {}
    for key, value in items:
        if key not in taken:
            grouped.setdefault(key, []).append(value)
    return {key: found[0] if len(found) == 1 else found for key, found in grouped.items()}
