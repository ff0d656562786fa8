"""Negotiating permessage-deflate in the handshake (RFC 6455, section 9.1; RFC 7692, sections 5 and 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastws_compat.deflate import DeflateOptions

EXTENSION = "permessage-deflate"
MAX_WINDOW_BITS = 15

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
EMPTY_ELEMENTS = re.compile(r"[ \t,]*")
# The name of an extension or one of its parameters, up to the separator.
PIECE = re.compile(rf'[ \t]*({TOKEN})(?:[ \t]*=[ \t]*({TOKEN}|"(?:[^"\\]|\\.)*"))?[ \t]*([,;]|\Z)', re.DOTALL)

# The values that a client may offer; "" is a parameter without a value. zlib cannot deflate with a window of
# 8 bits, so an offer that asks the server for one is declined.
OFFERED = {
    "server_no_context_takeover": re.compile(""),
    "client_no_context_takeover": re.compile(""),
    "server_max_window_bits": re.compile("9|1[0-5]"),
    "client_max_window_bits": re.compile("|[89]|1[0-5]"),
}

Parameters = list[tuple[str, str]]


class MalformedHeader(ValueError):
    """The header does not follow its grammar, which fails the handshake (RFC 6455, 9.1)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What client and server have agreed on."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    # For the header Sec-WebSocket-Extensions of the answer.
    response: str


def negotiate(header: str, options: DeflateOptions) -> Agreement | None:
    """The agreement on the first offer that can be accepted; None without one."""
    for name, parameters in parse(header):
        if name == EXTENSION and is_acceptable(parameters):
            return agree(dict(parameters), options)
    return None


def parse(header: str) -> list[tuple[str, Parameters]]:
    """The offers in a Sec-WebSocket-Extensions header, in order."""
    offers: list[tuple[str, Parameters]] = []
    position, is_name = _skip_empty(header, 0), True
    while position < len(header) or not is_name:
        match = PIECE.match(header, position)
        if match is None or (is_name and match[2] is not None):
            raise MalformedHeader(f"malformed extension at character {position}")
        if is_name:
            offers.append((match[1], []))
        else:
            offers[-1][1].append((match[1], _unquoted(match[2] or "")))
        is_name = match[3] != ";"
        position = _skip_empty(header, match.end()) if is_name else match.end()
    return offers


def _skip_empty(header: str, position: int) -> int:
    """Skip empty elements of the list, which are allowed."""
    match = EMPTY_ELEMENTS.match(header, position)
    return match.end() if match else position


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    plain = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    if re.fullmatch(TOKEN, plain) is None:
        raise MalformedHeader("a quoted value must be a token")
    return plain


def is_acceptable(parameters: Parameters) -> bool:
    """Whether an offer has only known parameters, each once and with a possible value (RFC 7692, 7)."""
    names = {name for name, _ in parameters}
    return len(names) == len(parameters) and all(
        name in OFFERED and OFFERED[name].fullmatch(value) for name, value in parameters
    )


def _answer(offer: dict[str, str], options: DeflateOptions) -> dict[str, int | None]:
    """The parameters of the server's answer; None is a parameter without a value."""
    answer: dict[str, int | None] = {}
    for switch in ("server_no_context_takeover", "client_no_context_takeover"):
        if options[switch] or switch in offer:
            answer[switch] = None
    # A client that does not offer these may be unable to obey the second, and need not know the first.
    for size in ("server_max_window_bits", "client_max_window_bits"):
        if size in offer:
            answer[size] = min(int(offer[size] or MAX_WINDOW_BITS), options[size])
    return answer


def agree(offer: dict[str, str], options: DeflateOptions) -> Agreement:
    """What the server makes of an acceptable offer."""
    answer = _answer(offer, options)
    texts = (name if bits is None else f"{name}={bits}" for name, bits in answer.items())
    return Agreement(
        "server_no_context_takeover" in answer,
        "client_no_context_takeover" in answer,
        answer.get("server_max_window_bits") or options["server_max_window_bits"],
        answer.get("client_max_window_bits") or MAX_WINDOW_BITS,
        "; ".join([EXTENSION, *texts]),
    )
