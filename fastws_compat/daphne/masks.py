"""Unmasking what clients send: each byte of a payload has been XORed with a byte of a key (RFC 6455, 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

# Up to this size Python's integers unmask faster than a call into autobahn's masker.
MAX_INTEGER_SIZE = 1024
# Multiplied by one of these, a key of four bytes becomes as long as a payload of up to that size, or longer.
REPEAT = tuple(int.from_bytes(b"\0\0\0\1" * count) for count in range(MAX_INTEGER_SIZE // 4 + 1))


def unmask_in_python(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    if size > MAX_INTEGER_SIZE:
        return _unmask_long(payload, key)
    mask = int.from_bytes(key) * REPEAT[(size + 3) // 4] >> 8 * (-size % 4)
    return (int.from_bytes(payload) ^ mask).to_bytes(size)


def _unmask_long(payload: bytes, key: bytes) -> bytes:
    # Imported here so that this module can be imported without autobahn.
    from autobahn.websocket import xormasker

    masker: Any = xormasker
    return bytes(masker.create_xor_masker(key, len(payload)).process(payload))


def fastest() -> Callable[[bytes, bytes], bytes]:
    """The function of `websockets` in C, if it is installed."""
    try:
        unmask: Callable[[bytes, bytes], bytes] = import_module("websockets.speedups").apply_mask
    except ImportError:
        return unmask_in_python
    return unmask


unmask = fastest()
