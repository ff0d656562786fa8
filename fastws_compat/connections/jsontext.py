"""JSON text as `json.loads` and `json.dumps` read and write it, to the letter, in half of their time."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from pydantic_core import from_json


def loads(text: str) -> Any:
    """The value that a JSON text stands for; JSONDecodeError if it is none."""
    try:
        return from_json(text, cache_strings="keys")
    except (ValueError, TypeError):
        # Half a surrogate pair, deep nesting, or an error, which `json` puts into its own words.
        return json.loads(text)


def dumper(default: Callable[[Any], Any] | None = None, *, allow_nan: bool = True) -> Callable[[Any], str]:
    """A function that writes compact JSON text; `default` is `json.dumps`'s, as is `allow_nan`."""
    encoder = json.JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, default=default, allow_nan=allow_nan
    )
    if c_make_encoder is None:
        return encoder.encode
    # What the encoder itself makes for each call; without its memory of what it is inside of.
    chunks = c_make_encoder(None, encoder.default, encode_basestring, None, ":", ",", False, False, allow_nan)

    def dumps(value: Any) -> str:
        """The compact JSON text of `value`; TypeError or ValueError for what JSON does not have."""
        try:
            return "".join(chunks(value, 0))
        except RecursionError:
            return encoder.encode(value)  # which sees a circle for what it is

    return dumps


dumps = dumper()
