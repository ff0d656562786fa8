"""The content of the page: the routes of the project as data for `docs.js`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import get_script_prefix

from fastws_compat.docs.outline import Outline
from fastws_compat.schema import asyncapi, catalogue
from fastws_compat.schema.description import CLOSE_CODES, Channel, Site
from fastws_compat.schema.vocabulary import BINARY, TEXT, Message

Object = dict[str, Any]
KINDS = {BINARY: "bytes", TEXT: "text"}


def document(request: HttpRequest) -> str:
    """The AsyncAPI document, with the request's host as a server."""
    here = f"{'wss' if request.is_secure() else 'ws'}://{request.get_host()}"
    return asyncapi.text(asyncapi.document(_description().site, here=here, prefix=_prefix()))


def page(request: HttpRequest) -> Object:
    """The routes, and the user whose session connects to them."""
    return {
        **_description().data,
        "prefix": _prefix(),
        "live": static("fastws/live.js"),
        "user": _user(request),
    }


def _prefix() -> str:
    return get_script_prefix().rstrip("/")


def _user(request: HttpRequest) -> str | None:
    """The name of the logged-in user."""
    user: Any = getattr(request, "user", None)
    return str(user.get_username()) if user is not None and user.is_authenticated else None


def _description() -> Description:
    """The description of the project's routes, which is rebuilt when the routes change."""
    routes = [id(place.route) for place in catalogue.places(catalogue.project())]
    return _described(settings.SESSION_COOKIE_NAME, *routes)


@lru_cache(maxsize=1)
def _described(session_cookie: str, *routes: int) -> Description:
    return Description(Site(catalogue.project(), session_cookie))


class Description:
    """The description of a site, and the data of its page."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._outline = Outline(site.vocabulary.schemas)
        self.data: Object = {
            "info": asyncapi.info(site),
            "routes": {channel.key: self._route(channel) for channel in site.channels},
            "messages": {key: self._message(found) for key, found in site.vocabulary.messages.items()},
            "schemas": self._outline.fields(),
            "closeCodes": CLOSE_CODES,
        }

    def _route(self, channel: Channel) -> Object:
        return {
            **channel.client_options,
            "tag": channel.tag,
            "title": channel.title,
            "address": channel.address,
            "host": channel.host,
            "summary": channel.summary,
            "description": channel.description,
            "tags": channel.tags,
            "deprecated": channel.deprecated,
            "requirements": channel.requirements,
            "messageRequirements": channel.message_requirements,
            "limits": [f"{name.replace('_', ' ')} {value}" for name, value in channel.limits.items()],
            "schemes": [self._scheme(name) for name in channel.schemes],
            "fields": [*self._fields(channel)],
            "headers": [parameter.name for parameter in channel.of("header")],
            "cookies": [parameter.name for parameter in channel.of("cookie")],
            "isTyped": channel.contract is not None,
            "receives": _keys(channel.spoken.received),
            "sends": _keys(channel.spoken.sent),
            "replies": {key: _keys(found) for key, found in channel.spoken.replies.items()},
            "closeCodes": channel.close_codes,
        }

    def _fields(self, channel: Channel) -> Iterator[Object]:
        """The parameters that a form offers and a browser can send."""
        for name in channel.host_names:
            yield self._field("host", name, {"type": "string"}, True)
        for name in channel.path_names:
            yield self._field("path", name, asyncapi.path_schema(self.site, channel, name), True)
        for parameter in channel.of("query"):
            yield self._field("query", parameter.name, self.site.schema(parameter), parameter.required)

    def _field(self, place: str, name: str, schema: Object, required: bool) -> Object:
        known = [
            place,
            "required" if required else "",
            self._outline.type_of(schema),
            self._outline.about(schema),
        ]
        about = " · ".join(filter(None, known))
        control = self._outline.control(schema)
        return {"place": place, "name": name, "required": required, "about": about, **control}

    def _scheme(self, name: str) -> Object:
        """How a browser sends a secret: as a subprotocol, in the query, or not at all."""
        found = self.site.schemes.objects[name]
        place = found.get("in", "header") if "x-subprotocol" not in found else "protocol"
        return {
            "name": name,
            "type": found["type"],
            "description": found.get("description", ""),
            "place": place,
            "sent": found.get("x-subprotocol") or found.get("name", "Authorization"),
        }

    def _message(self, message: Message) -> Object:
        return {
            "name": message.name,
            "title": message.title,
            "summary": message.summary,
            "kind": KINDS.get(message.content_type or "", "json"),
            "hasId": message.has_id,
            # As texts: a browser that parses them rounds long numbers.
            "examples": [json.dumps(found, indent=2, ensure_ascii=False) for found in message.examples],
            "about": self._outline.about(message.payload),
            **self._outline.entry(message.payload),
        }


def _keys(messages: Iterable[Message]) -> list[str]:
    return [message.key for message in messages]
