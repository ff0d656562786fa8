"""Reading and writing JSON text with the results of `json.loads` and `json.dumps`, in half the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from pydantic_core import from_json


def loads(text: str) -> Any:
    """The value of a JSON text; JSONDecodeError if it is not valid JSON."""
    try:
        return from_json(text, cache_strings="keys")
    except (ValueError, TypeError):
        # A lone surrogate, deep nesting, or an error, for which `json` raises its own exception.
        return json.loads(text)


def dumper(default: Callable[[Any], Any] | None = None, *, allow_nan: bool = True) -> Callable[[Any], str]:
    """A function that writes compact JSON text; `default` and `allow_nan` are those of `json.dumps`."""
    encoder = json.JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, default=default, allow_nan=allow_nan
    )
    if c_make_encoder is None:
        return encoder.encode
    # JSONEncoder makes this function for each call. Without its check for circular references it is reusable.
    chunks = c_make_encoder(None, encoder.default, encode_basestring, None, ":", ",", False, False, allow_nan)

    def dumps(value: Any) -> str:
        """The compact JSON text of `value`; TypeError or ValueError if JSON cannot represent it."""
        try:
            return "".join(chunks(value, 0))
        except RecursionError:
            return encoder.encode(value)  # raises the proper error for a circular reference

    return dumps


dumps = dumper()
