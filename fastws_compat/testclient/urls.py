"""The URL of a test connection: its host, path, query string and credentials."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlencode

from fastws_compat.testclient.headers import all_items

ParamTypes = Mapping[str, Any] | Iterable[tuple[str, Any]] | str

PORTS = {"ws": 80, "wss": 443}
# https://url.spec.whatwg.org/#percent-encoded-bytes. "%" is safe, so existing escapes are kept.
PRINTABLE = {chr(code) for code in range(0x20, 0x7F)}
QUERY_SAFE = "".join(PRINTABLE - set(' "#<>'))
PATH_SAFE = "".join(PRINTABLE - set(' "#<>?`{}'))


def http_url(target: SplitResult) -> str:
    """The URL as cookie jars expect it."""
    return target._replace(scheme="https" if target.scheme == "wss" else "http").geturl()


def host_of(target: SplitResult) -> str:
    return (target.hostname or "").encode("idna").decode("ascii")


def host_header(target: SplitResult) -> str:
    """The value of the Host header: without credentials and without the default port."""
    host = host_of(target)
    host = f"[{host}]" if ":" in host else host
    return host if target.port in (None, PORTS[target.scheme]) else f"{host}:{target.port}"


def without_dots(path: str) -> str:
    """The path without its "." and ".." segments (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and kept not in ([], [""]):
            kept.pop()
        elif segment not in (".", ".."):
            kept.append(segment)
    return "/".join(kept)


def encode_params(params: ParamTypes) -> str:
    if isinstance(params, str):
        values: dict[str, list[Any]] = dict(parse_qs(params, keep_blank_values=True))
    else:
        values = {}
        for name, value in all_items(params):
            values.setdefault(name, []).extend(value if isinstance(value, (list, tuple)) else [value])
    return urlencode([(name, _as_text(value)) for name, items in values.items() for value in items])


def _as_text(value: Any) -> str:
    """The text of a query parameter: `true` and `false` as in JSON, an empty string for None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def userinfo(target: SplitResult) -> tuple[str, str] | None:
    if not (target.username or target.password):
        return None
    return unquote(target.username or ""), unquote(target.password or "")


def basic_auth(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
