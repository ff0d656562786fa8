"""What a message was serialized to, as it is validated: in tests, subscriptions and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, AliasGenerator, BaseModel
from pydantic.fields import FieldInfo

from fastws_compat.dependencies.annotations import is_subclass, is_union, unwrap_alias
from fastws_compat.messages.members import base_of, constant_of, fields_of

ARRAYS = (list, tuple, set, frozenset, Sequence)


Config = Mapping[str, Any]
NO_CONFIG: Config = {}
# The key for a field, of which it gets the class, the name and the configuration.
Naming = Callable[[Any, str, Config], str]


def as_input(kind: Any, value: Any) -> Any:
    """JSON of a type with the names of fields instead of their aliases, and without computed fields."""
    return _renamed(kind, value, NO_CONFIG, lambda kind, name, config: name)


def as_sent(kind: Any, value: Any) -> Any:
    """JSON of a type with the aliases that validation reads, and without computed fields."""
    return _renamed(kind, value, NO_CONFIG, _read_name)


def _renamed(kind: Any, value: Any, config: Config, naming: Naming) -> Any:
    """The value with other keys.

    `config` is that of the model around it, which also holds for a TypedDict or dataclass without its own.
    """
    kind = _member(_plain(kind), value, config)
    if isinstance(value, list):
        return [_renamed(*each, config, naming) for each in _items(kind, value)]
    if not isinstance(value, dict):
        return value
    config, fields = _config_of(kind, config), fields_of(kind)
    if not fields:
        return {key: _renamed(_item_type(kind), item, config, naming) for key, item in value.items()}
    return {
        naming(kind, name, config): _renamed(fields.get(name), value[key], config, naming)
        for key, name in _names(kind, value, config)
    }


def _config_of(kind: Any, outer: Config) -> Config:
    """The configuration of a class, or else that of the model around it."""
    config: Config = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", outer))
    return config


def _plain(kind: Any) -> Any:
    """The type behind aliases, `Annotated[...]` and root models."""
    kind = unwrap_alias(base_of(unwrap_alias(kind)))
    is_root = is_subclass(kind, BaseModel) and kind.__pydantic_root_model__
    return _plain(kind.model_fields["root"].annotation) if is_root else kind


def _member(kind: Any, value: Any, config: Config) -> Any:
    """The member of a union that has been serialized; None if that cannot be told."""
    if not is_union(kind):
        return kind
    members = [_member(_plain(member), value, config) for member in get_args(kind)]
    return next((member for member in members if _is_of(member, value, config)), None)


def _is_of(kind: Any, value: Any, config: Config) -> bool:
    if isinstance(value, list):
        return get_origin(kind) in ARRAYS
    return isinstance(value, dict) and bool(fields_of(kind)) and _has_fields(kind, value, config)


def _has_fields(kind: Any, value: dict[str, Any], config: Config) -> bool:
    """Whether an object has only keys of a class, and its constants."""
    fields = fields_of(kind)
    return all(
        name in fields and constant_of(kind, name) in (None, value[key])
        for key, name in _names(kind, value, _config_of(kind, config))
    )


def _items(kind: Any, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each item of an array with its type."""
    arguments = get_args(kind)
    is_fixed = get_origin(kind) is tuple and len(arguments) == len(values)
    kinds = arguments if is_fixed else [*arguments[:1], None][:1] * len(values)
    yield from zip(kinds, values, strict=True)


def _item_type(kind: Any) -> Any:
    """The type of the values of a dict."""
    return get_args(kind)[-1] if get_args(kind) else None


def _names(kind: Any, value: dict[str, Any], config: Config) -> Iterator[tuple[str, str]]:
    """The keys of an object that are not computed, with the names of their fields."""
    aliases = {_alias_of(name, info, config): name for name, info in _infos(kind).items()}
    computed = {info.alias or name for name, info in getattr(kind, "model_computed_fields", {}).items()}
    yield from ((key, aliases.get(key, key)) for key in value if key not in computed)


def _infos(kind: Any) -> Mapping[str, FieldInfo]:
    """What pydantic knows about the fields of a model, dataclass or TypedDict."""
    infos = getattr(kind, "model_fields", getattr(kind, "__pydantic_fields__", None))
    if infos is None:
        hints = get_type_hints(get_origin(kind) or kind, include_extras=True)
        infos = {name: FieldInfo.from_annotation(hint) for name, hint in hints.items()}
    return infos


def _alias_of(name: str, info: FieldInfo, config: Config) -> str:
    """What a field is called when it is serialized."""
    return info.serialization_alias or _generated(name, config, SERIALIZATION) or name


def _read_name(kind: Any, name: str, config: Config) -> str:
    """What a field is called when it is validated; the first of several names."""
    info = _infos(kind).get(name)
    if info is None or config.get("validate_by_alias") is False:
        return name
    alias = info.validation_alias or _generated(name, config, VALIDATION)
    alias = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return alias if isinstance(alias, str) else name


# Where an AliasGenerator returns the alias for one direction.
VALIDATION, SERIALIZATION = 1, 2


def _generated(name: str, config: Config, direction: int) -> Any:
    """The alias that a model's generator makes for a field."""
    generator = config.get("alias_generator")
    if isinstance(generator, AliasGenerator):
        aliases = generator.generate_aliases(name)
        return aliases[direction] or aliases[0]
    return generator and generator(name)
