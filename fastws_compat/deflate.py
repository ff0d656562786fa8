"""How an application, a router or a route wants its messages compressed (permessage-deflate, RFC 7692)."""

from __future__ import annotations

from typing import Any, TypedDict

from fastws_compat.exceptions import DeclarationError


class DeflateOptions(TypedDict, total=False):
    """What `deflate=True` means in detail; the parameters have their names from RFC 7692."""

    #: Compress each message by itself. Only then does a group compress a message once for all.
    server_no_context_takeover: bool
    #: Have the client do the same. Otherwise every socket keeps the state of an inflater.
    client_no_context_takeover: bool
    #: The size of the server's window as a power of two, 9 to 15; the client may ask for less.
    server_max_window_bits: int
    #: The size of the client's window as a power of two, 9 to 15.
    client_max_window_bits: int
    #: The size in bytes below which a message is sent as it is.
    threshold: int
    #: The compression level of zlib, from 1 (fast) to 9 (small).
    level: int


# A window of 4 KiB takes a twentieth of the time that zlib's default of 32 KiB takes for a short message.
DEFAULTS: DeflateOptions = {
    "server_no_context_takeover": True,
    "client_no_context_takeover": True,
    "server_max_window_bits": 12,
    "client_max_window_bits": 12,
    "threshold": 256,
    "level": 6,
}

# The least and the greatest value. zlib has no raw deflate with a window of 8 bits.
RANGES = {
    "server_max_window_bits": (9, 15),
    "client_max_window_bits": (9, 15),
    "threshold": (0, 2**31),
    "level": (1, 9),
}


def compile_deflate(value: Any) -> DeflateOptions | None:
    """All options of a declaration; None if it turns compression off."""
    if value is None or value is False:
        return None
    if value is True:
        return DEFAULTS
    if not isinstance(value, dict):
        raise DeclarationError(f"deflate={value!r} says nothing: give True, False or a dict of options.")
    for name, option in value.items():
        _check(name, option)
    return {**DEFAULTS, **value}


def _check(name: Any, option: Any) -> None:
    if name not in DEFAULTS:
        raise DeclarationError(f"deflate has no option {name!r}, only {', '.join(DEFAULTS)}.")
    if name not in RANGES:
        if not isinstance(option, bool):
            raise DeclarationError(f"deflate: {name}={option!r} is neither True nor False.")
        return
    least, greatest = RANGES[name]
    if not isinstance(option, int) or isinstance(option, bool) or not least <= option <= greatest:
        raise DeclarationError(
            f"deflate: {name}={option!r} is not possible: give an integer from {least} to {greatest}."
        )
