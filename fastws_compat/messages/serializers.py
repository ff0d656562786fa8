"""Serializers of messages that raise an exception where pydantic only warns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import SchemaSerializer, core_schema

Serializer = Callable[[Any], bytes]

# With warnings="error", pydantic raises by itself. But that option may be a bool too, and pydantic raises and
# discards an exception to find out that "error" is not one, which takes longer than a small message. So it
# warns, and the warning raises TypeError, because this module's record of its warnings is not a dict. The
# record is false because unittest replaces any that is true.
__warningregistry__ = False


def _raises(to_json: Callable[..., bytes], value: Any) -> bool:
    """Whether a value of the wrong type raises here."""
    try:
        to_json(value)
    except TypeError:
        return True
    return False


IS_STRICT = _raises(SchemaSerializer(core_schema.str_schema()).to_json, 0)


def quick_serializer(to_json: Callable[..., bytes], exact: Serializer, fields: int = 0) -> Serializer:
    """Serializes by alias like `exact`, which is called for whatever is wrong.

    `fields` is the number of a model's fields: pydantic does not notice if one is missing.
    """

    def of_model(message: Any) -> bytes:
        try:
            if len(message.__dict__) >= fields:
                return to_json(message, by_alias=True)
        except Exception:
            pass
        return exact(message)

    def of_other(value: Any) -> bytes:
        try:
            return to_json(value, by_alias=True)
        except Exception:
            pass
        return exact(value)

    quick = of_model if fields else of_other
    return quick if IS_STRICT else exact
