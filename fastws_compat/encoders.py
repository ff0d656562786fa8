"""Convert any object to the types that JSON has."""

from __future__ import annotations

import dataclasses
import datetime
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from importlib import import_module
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from re import Pattern
from types import GeneratorType
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic.main import IncEx
from pydantic.networks import AnyUrl, NameEmail
from pydantic.types import SecretBytes, SecretStr
from pydantic_core import PydanticUndefinedType, Url

from fastws_compat.exceptions import PydanticV1NotSupportedError
from fastws_compat.modules import loaded

Encoder = Callable[[Any], Any]

SCALARS = (str, int, float, bool, type(None))
SEQUENCES = (list, set, frozenset, GeneratorType, tuple, deque)


def isoformat(moment: datetime.date | datetime.time) -> str:
    """Return a date or time in the ISO 8601 format."""
    return moment.isoformat()


def decimal_encoder(number: Decimal) -> int | float:
    """An int if the number has no decimal places, so that it is still one when it is read back."""
    exponent = number.as_tuple().exponent
    return int(number) if isinstance(exponent, int) and exponent >= 0 else float(number)


# Encoders for classes that `_Encoding.encode` does not handle, and for their subclasses. Users may add more.
ENCODERS_BY_TYPE: dict[type[Any], Encoder] = {
    bytes: bytes.decode,
    datetime.date: isoformat,
    datetime.datetime: isoformat,
    datetime.time: isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    Decimal: decimal_encoder,
    IPv4Address: str,
    IPv4Interface: str,
    IPv4Network: str,
    IPv6Address: str,
    IPv6Interface: str,
    IPv6Network: str,
    NameEmail: str,
    Pattern: lambda pattern: pattern.pattern,
    SecretBytes: str,
    SecretStr: str,
    UUID: str,
    Url: str,
    AnyUrl: str,
}
for _module in ("pydantic.color", "pydantic_extra_types.color"):
    with suppress(ImportError):
        ENCODERS_BY_TYPE[import_module(_module).Color] = str


def jsonable_encoder(
    obj: Any,
    include: IncEx | None = None,
    exclude: IncEx | None = None,
    by_alias: bool = True,
    exclude_unset: bool = False,
    exclude_defaults: bool = False,
    exclude_none: bool = False,
    custom_encoder: dict[Any, Encoder] | None = None,
    sqlalchemy_safe: bool = True,
) -> Any:
    """`obj` as dicts, lists, strings, numbers, booleans and None, which `json.dumps` can write.

    The options from `include` to `exclude_none` are those of pydantic's `model_dump`. `custom_encoder` maps
    types to functions that take precedence; `sqlalchemy_safe` omits keys that start with "_sa".
    """
    options = {
        "by_alias": by_alias,
        "exclude_unset": exclude_unset,
        "exclude_defaults": exclude_defaults,
        "exclude_none": exclude_none,
    }
    encoding = _Encoding(options, custom_encoder or {}, sqlalchemy_safe)
    return encoding.encode(obj, _keys(include), _keys(exclude))


def _keys(chosen: Any) -> Any:
    return chosen if chosen is None or isinstance(chosen, (set, dict)) else set(chosen)


@dataclasses.dataclass(frozen=True, slots=True)
class _Encoding:
    """The options that apply at every level. `include` and `exclude` differ from level to level."""

    options: dict[str, bool]
    custom: dict[Any, Encoder]
    sqlalchemy_safe: bool

    def encode(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        custom = _find(self.custom, obj) if self.custom else None
        if custom is not None:
            return custom(obj)
        if type(obj) in SCALARS:  # the most frequent case, and faster than the checks below
            return obj
        if isinstance(obj, BaseModel):
            return self._model(obj, include, exclude)
        if dataclasses.is_dataclass(obj):
            assert not isinstance(obj, type)
            return self.encode(dataclasses.asdict(obj), include, exclude)
        if isinstance(obj, Enum):
            return obj.value
        if isinstance(obj, PurePath):
            return str(obj)
        if isinstance(obj, SCALARS):
            return obj
        if isinstance(obj, PydanticUndefinedType):
            return None
        return self._container(obj, include, exclude)

    def _container(self, obj: Any, include: Any, exclude: Any) -> Any:
        if isinstance(obj, dict):
            return self._dict(obj, include, exclude)
        if isinstance(obj, SEQUENCES):
            return [self.encode(item, include, exclude) for item in obj]
        encoder = _find(ENCODERS_BY_TYPE, obj)
        if encoder is None:
            return self.encode(_attributes(obj), include, exclude)
        return encoder(obj)

    def _model(self, model: BaseModel, include: Any, exclude: Any) -> Any:
        options: dict[str, Any] = self.options
        dumped = model.model_dump(mode="json", include=include, exclude=exclude, **options)
        # Encode again without custom encoders: pydantic keeps "_sa" keys, and None inside dict fields.
        return _Encoding(self.options, {}, self.sqlalchemy_safe).encode(dumped)

    def _dict(self, mapping: dict[Any, Any], include: Any, exclude: Any) -> dict[Any, Any]:
        return {
            self.encode(key): self.encode(value)
            for key, value in mapping.items()
            if (include is None or key in include)
            and (exclude is None or key not in exclude)
            and not self._is_left_out(key, value)
        }

    def _is_left_out(self, key: Any, value: Any) -> bool:
        if value is None and self.options["exclude_none"]:
            return True
        return self.sqlalchemy_safe and isinstance(key, str) and key.startswith("_sa")


def _find(encoders: dict[Any, Encoder], obj: Any) -> Encoder | None:
    if type(obj) in encoders:
        return encoders[type(obj)]
    return next((encoder for kind, encoder in encoders.items() if isinstance(obj, kind)), None)


def _attributes(obj: Any) -> Any:
    """The last resort: `obj` as a mapping or as pairs, or else its attributes."""
    _refuse_v1(obj)
    errors: list[Exception] = []
    attempts: Iterable[Encoder] = (dict, vars)
    for attempt in attempts:
        try:
            return attempt(obj)
        except Exception as exc:
            errors.append(exc)
    raise ValueError(errors) from errors[-1]


def _refuse_v1(obj: Any) -> None:
    v1 = loaded("pydantic.v1")
    if v1 is not None and isinstance(obj, v1.BaseModel):
        raise PydanticV1NotSupportedError(
            f"pydantic.v1 models are no longer supported by FastAPI. Please update the model {obj!r}."
        )
