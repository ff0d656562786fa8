"""What the fields of a message are called: in Python, where they are read and where they are sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, get_args, get_origin

from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel
from pydantic.fields import FieldInfo
from typing_extensions import ReadOnly, get_type_hints, is_typeddict

from fastws_compat.dependencies.annotations import is_subclass

Side = Literal["receives", "sends"]
Config = Mapping[str, Any]
NO_CONFIG: Config = {}
# What may stand around the type of a key of a TypedDict.
QUALIFIERS = (Required, NotRequired, ReadOnly)


def base_of(member: Any) -> Any:
    """The class behind `Annotated[...]`."""
    return get_args(member)[0] if get_origin(member) is Annotated else member


def fields_of(member: Any) -> dict[str, Any]:
    """The fields of a model, dataclass or TypedDict, with their types; a root model has none."""
    kind = base_of(member)
    if is_subclass(kind, BaseModel):
        return {} if is_root(kind) else {name: info.annotation for name, info in kind.model_fields.items()}
    return _hints(kind) if _has_hints(kind) else {}


def is_root(kind: Any) -> bool:
    """Whether a class is a root model, whose value stands in a frame without a name."""
    return is_subclass(kind, BaseModel) and kind.__pydantic_root_model__


def infos_of(kind: Any) -> Mapping[str, FieldInfo]:
    """What pydantic knows about the fields of a model, dataclass or TypedDict."""
    infos = getattr(kind, "model_fields", getattr(kind, "__pydantic_fields__", None))
    if infos is None:
        hints = _hints(kind, include_extras=True) if _has_hints(kind) else {}
        infos = {name: FieldInfo.from_annotation(_unqualified(hint)) for name, hint in hints.items()}
    return infos


def config_of(kind: Any, outer: Config = NO_CONFIG) -> Config:
    """The configuration of a class, or else that of the model around it."""
    config: Config = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", outer))
    return config


def sent_name(name: str, info: FieldInfo, config: Config) -> str:
    """What a field is called when it is serialized."""
    return info.serialization_alias or _generated(name, config, SERIALIZATION) or name


def read_name(name: str, info: FieldInfo, config: Config) -> str:
    """What a field is called when it is validated; the first of several names."""
    alias = _read_alias(name, info, config)
    alias = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return alias if isinstance(alias, str) else name


def read_places(name: str, info: FieldInfo, config: Config) -> list[list[str | int]]:
    """Where validation looks for a field of a message."""
    alias = _read_alias(name, info, config) or name
    if isinstance(alias, AliasChoices):
        places = alias.convert_to_aliases()
    else:
        places = [alias.convert_to_aliases() if isinstance(alias, AliasPath) else [alias]]
    return [*places, [name]] if _reads_names(config) and [name] not in places else places


def wire_name(member: Any, name: str, side: Side) -> str:
    """What a field of a message is called in a frame."""
    kind = base_of(member)
    info = infos_of(kind).get(name)
    find = read_name if side == "receives" else sent_name
    return name if info is None else find(name, info, config_of(kind))


def _reads_names(config: Config) -> bool:
    """Whether a class with aliases also takes the names of its fields."""
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def _read_alias(name: str, info: FieldInfo, config: Config) -> Any:
    if config.get("validate_by_alias") is False:
        return None
    return info.validation_alias or _generated(name, config, VALIDATION)


# Where an AliasGenerator returns the alias for one direction.
VALIDATION, SERIALIZATION = 1, 2


def _generated(name: str, config: Config, direction: int) -> Any:
    """The alias that a class's generator makes for a field."""
    generator = config.get("alias_generator")
    if isinstance(generator, AliasGenerator):
        aliases = generator.generate_aliases(name)
        return aliases[direction] or aliases[0]
    return generator and generator(name)


def _has_hints(kind: Any) -> bool:
    kind = get_origin(kind) or kind
    return is_typeddict(kind) or dataclasses.is_dataclass(kind)


def _hints(kind: Any, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return get_type_hints(get_origin(kind) or kind, include_extras=include_extras)
    except NameError:
        return {}


def _unqualified(hint: Any) -> Any:
    while get_origin(hint) in QUALIFIERS:
        hint = get_args(hint)[0]
    return hint
