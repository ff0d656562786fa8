"""FastAPI paths such as `/ws/{room}/{number:int}`: parsing, matching, and building URLs from them."""

from __future__ import annotations

import re
from typing import Any

from fastws_compat.convertors import CONVERTOR_TYPES, Convertor, PathConvertor, StringConvertor

PARAM = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(:[a-zA-Z_][a-zA-Z0-9_]*)?}")
FORMAT_PARAM = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)}")

Convertors = dict[str, Convertor[Any]]


def _refuse_duplicates(names: set[str], path: str) -> None:
    if names:
        plural = "s" if len(names) > 1 else ""
        raise ValueError(f"Duplicated param name{plural} {', '.join(sorted(names))} at path {path}")


def _without_port(host: str) -> str:
    return host if host.endswith("]") else host.rsplit(":", 1)[0]


def compile_path(path: str) -> tuple[re.Pattern[str], str, Convertors]:
    """The pattern, the template and the convertors of a path, or of a host name (no leading "/").

    Raises AssertionError for an unknown convertor, and ValueError for a parameter that occurs twice.
    """
    is_host = not path.startswith("/")
    pattern, template, end = "^", "", 0
    convertors: Convertors = {}
    duplicates: set[str] = set()
    for match in PARAM.finditer(path):
        name, kind = match[1], (match[2] or ":str")[1:]
        if kind not in CONVERTOR_TYPES:
            raise AssertionError(f"Unknown path convertor '{kind}'")
        if name in convertors:
            duplicates.add(name)
        convertors[name] = CONVERTOR_TYPES[kind]
        literal = path[end : match.start()]
        pattern += f"{re.escape(literal)}(?P<{name}>{convertors[name].regex})"
        template += f"{literal}{{{name}}}"
        end = match.end()
    _refuse_duplicates(duplicates, path)
    rest = path[end:]
    # The port and the case of a Host header do not matter (RFC 9110, 4.2.3).
    literal = _without_port(rest) if is_host else rest
    flags = re.IGNORECASE if is_host else 0
    return re.compile(f"{pattern}{re.escape(literal)}$", flags), template + rest, convertors


def replace_params(path: str, convertors: Convertors, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The template with its parameters filled in, and the parameters that the template does not use."""
    remaining = dict(params)

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        return convertors[name].to_string(remaining.pop(name)) if name in remaining else match[0]

    return FORMAT_PARAM.sub(fill, path), remaining


def changes_text(convertor: Convertor[Any]) -> bool:
    """Whether the value of a parameter may be something else than the text in the path."""
    return type(convertor) not in (StringConvertor, PathConvertor)


def convert(match: re.Match[str], convertors: Convertors) -> dict[str, Any]:
    """The parameters of a matched path, converted."""
    params: dict[str, Any] = match.groupdict() if convertors else {}
    for name, convertor in convertors.items():
        params[name] = convertor.convert(params[name])
    return params
