"""The template tags: `{% ws_url "chat" room_id=1 %}` is the URL of a socket, like `{% url %}` for a page.

`{% ws_position "room.7" %}` is the current position in the history of a group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.template import Library, Node, TemplateSyntaxError
from django.template.base import FilterExpression, Parser, Token, token_kwargs
from django.template.context import Context
from django.urls import NoReverseMatch, get_script_prefix
from django.utils.html import conditional_escape

from fastws_compat.datastructures import URLPath
from fastws_compat.groups.group import Group
from fastws_compat.layers.client import DEFAULT
from fastws_compat.routing import NoMatchFound
from fastws_compat.schema import catalogue

register = Library()


@register.tag
def ws_url(parser: Parser, token: Token) -> WSURLNode:
    """The URL with scheme and host of the request, or only its path if the context has no request."""
    tag, *bits = token.split_contents()
    if not bits:
        raise TemplateSyntaxError(f"'{tag}' takes at least one argument, the name of a route.")
    name = parser.compile_filter(bits.pop(0))
    variable = None
    if len(bits) >= 2 and bits[-2] == "as":
        variable = bits[-1]
        bits = bits[:-2]
    params = token_kwargs(bits, parser)
    if bits:
        raise TemplateSyntaxError(
            f"'{tag}' takes path parameters by name, for example room_id=1, not {bits[0]!r}."
        )
    return WSURLNode(name, params, variable)


class WSURLNode(Node):
    child_nodelists = ()

    def __init__(
        self, name: FilterExpression, params: dict[str, FilterExpression], variable: str | None
    ) -> None:
        self.name = name
        self.params = params
        self.variable = variable

    def render(self, context: Context) -> str:
        name = self.name.resolve(context)
        params = {key: value.resolve(context) for key, value in self.params.items()}
        try:
            url = absolute(path_for(str(name), params), context.get("request"))
        except NoReverseMatch:
            if self.variable is None:
                raise
            url = ""
        if self.variable is not None:
            context[self.variable] = url
            return ""
        return conditional_escape(url) if context.autoescape else url


@register.simple_tag
def ws_position(group: str | Group[Any], layer: str = DEFAULT) -> str:
    """The position after the newest message to a group, for `live.js`; "" while the store is unavailable.

    It has to be read before the data that the page shows.
    """
    found = group if isinstance(group, Group) else Group(group, layer=layer)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return found.position()
    # As for a query in a template that an async view renders.
    raise SynchronousOnlyOperation(
        "{% ws_position %} cannot be used in a template that async code renders: pass "
        f"`await Group({found.name!r}).aposition()` to the template, or render it with "
        "`await sync_to_async(render)(request, ...)`."
    )


def path_for(name: str, params: dict[str, Any]) -> URLPath:
    """The path of a named route of the project; raises NoReverseMatch if there is none."""
    for root in catalogue.roots(catalogue.project()):
        try:
            return root.url_path_for(name, **params)
        except NoMatchFound:
            continue
        except (AssertionError, TypeError, ValueError) as exc:
            raise NoReverseMatch(f"The WebSocket route {name!r} does not accept {params!r}: {exc}") from exc
    raise NoReverseMatch(f"{_problem(name)} Parameters tried: {_listed(params)}.")


def absolute(path: URLPath, request: Any) -> str:
    """The path below the script prefix, with scheme and host if a request is given."""
    full = get_script_prefix().rstrip("/") + str(path)
    if request is None:
        return f"//{path.host}{full}" if path.host else full
    scheme = "wss" if request.is_secure() else "ws"
    return f"{scheme}://{path.host or request.get_host()}{full}"


def _problem(name: str) -> str:
    entries = catalogue.entries(catalogue.project())
    known = [entry.path for entry in entries if entry.name == name]
    if known:
        return f"The WebSocket route {name!r} has other parameters: {_listed(known)}."
    names = sorted({entry.name for entry in entries})
    return f"No WebSocket route is named {name!r}. The names are: {_listed(names)}."


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"
