"""All routes of a project, described once: for the AsyncAPI document, for TypeScript and for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any

from fastws_compat.applications import FastAPI, Starlette
from fastws_compat.dependencies.model import Step
from fastws_compat.messages.contract import DEFAULT_TAG, Contract
from fastws_compat.routing.routes import APIWebSocketRoute, WebSocketRoute
from fastws_compat.schema import access, catalogue
from fastws_compat.schema.catalogue import Place
from fastws_compat.schema.definitions import Schema
from fastws_compat.schema.parameters import Parameter, parameters_of
from fastws_compat.schema.vocabulary import Spoken, Vocabulary

CONVERTOR = re.compile(r"\{(\w+)(?::[^}]*)?\}")
NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_.:-]+")
DEFAULT_TITLE = "FastAPI"

CLOSE_CODES = {
    1000: "The endpoint returned.",
    1003: "A frame was of the wrong kind, such as text instead of binary.",
    1007: "A frame is not valid UTF-8 or not JSON.",
    1008: "A parameter of the handshake is invalid. Browsers see 1006.",
    1009: "A message is too large.",
    1011: "The endpoint raised an exception.",
    1012: "The server is restarting. Connect again.",
    1013: "The client reads too slowly for the messages that groups send it.",
    4401: "The user is not logged in, or no longer logged in.",
    4403: "The user is not allowed, or no longer allowed.",
    4404: "The object does not exist.",
    4408: "No message was sent for too long, or the connection exceeded its maximum age.",
    4422: "A message did not validate, or too many in a row did not.",
    4429: "The client sent too many messages.",
}


@dataclass(frozen=True, eq=False)
class Channel:
    """One route, as it is published."""

    # Unique in the project.
    key: str
    place: Place
    title: str
    address: str
    summary: str
    description: str
    tags: tuple[str, ...]
    deprecated: bool
    contract: Contract | None
    spoken: Spoken
    parameters: tuple[Parameter, ...]
    path_names: tuple[str, ...]
    schemes: tuple[str, ...]
    requirements: tuple[str, ...]
    permissions: tuple[str, ...]
    # By the name of a message, what its function requires beyond the handshake.
    message_requirements: dict[str, list[str]]
    limits: dict[str, Any]
    close_codes: dict[int, str]

    @property
    def host(self) -> str | None:
        """The host of a `Host` route, without convertors."""
        return self.place.host and CONVERTOR.sub(r"{\1}", self.place.host)

    @property
    def host_names(self) -> list[str]:
        return CONVERTOR.findall(self.place.host or "")

    @property
    def whole_paths(self) -> list[str]:
        """The path parameters that may contain slashes."""
        return re.findall(r"\{(\w+):path\}", self.place.prefix + self.place.route.path)

    @property
    def tag(self) -> str:
        """The field that tells messages apart."""
        return DEFAULT_TAG if self.contract is None else self.contract.tag

    @property
    def client_options(self) -> dict[str, Any]:
        """What a client must know about the route, as far as it differs from the default."""
        contract = self.contract
        texts = contract is not None and contract.outgoing.members.text is not None
        found = {
            "tag": None if self.tag == DEFAULT_TAG else self.tag,
            "heartbeat": contract is not None and contract.heartbeat,
            "text": texts,
            "paths": list(self.whole_paths),
        }
        return {name: value for name, value in found.items() if value}

    def of(self, source: str) -> list[Parameter]:
        """The parameters in one part of the handshake."""
        return [parameter for parameter in self.parameters if parameter.source == source]


class Site:
    """The routes of a project, their messages, and the application that speaks for all of them.

    Raises DeclarationError for a route whose messages name a type that is not defined.
    """

    def __init__(self, application: Any, session_cookie: str = "sessionid") -> None:
        places = [place for place in catalogue.places(application) if _is_published(place.route)]
        self.apps = _apps(application, places)
        self.schemes = access.Schemes(session_cookie)
        parameters = {id(place): tuple(_parameters(place.route)) for place in places}
        schemas = {one: one.core_schema for one in chain.from_iterable(parameters.values())}
        self.vocabulary = Vocabulary(_contracts(places), schemas)
        keys = _keys(places)
        self.channels = [
            self._channel(place, key, parameters[id(place)])
            for place, key in sorted(zip(places, keys, strict=True), key=lambda pair: pair[1])
        ]

    def schema(self, parameter: Parameter) -> Schema:
        """The schema of a parameter, with its examples."""
        found = self.vocabulary.parameter(parameter)
        return {**found, "examples": parameter.examples} if parameter.examples else found

    def _channel(self, place: Place, key: str, parameters: tuple[Parameter, ...]) -> Channel:
        route: Any = place.route
        contract, steps = _contract(route), _steps(route)
        calls = [step.call for step in steps]
        address = _address(place)
        requirements = access.requirements(calls)
        return Channel(
            key=key,
            place=place,
            title=place.names + route.name,
            address=address,
            summary=getattr(route, "summary", ""),
            description=getattr(route, "description", ""),
            tags=tuple(dict.fromkeys(self._tags(place))),
            deprecated=bool(getattr(route, "deprecated", False)),
            contract=contract,
            spoken=Spoken() if contract is None else self.vocabulary.spoken(contract),
            parameters=parameters,
            path_names=tuple(CONVERTOR.findall(address)),
            schemes=tuple(self.schemes.of(steps)),
            requirements=tuple(requirements),
            permissions=tuple(access.permissions(calls)),
            message_requirements=_message_requirements(route, contract),
            limits=dict(route.limits.options),
            close_codes=dict(_close_codes(route, contract, bool(parameters), bool(requirements))),
        )

    def _tags(self, place: Place) -> Iterator[str]:
        for tag in getattr(place.route, "tags", ()):
            yield str(tag.value if isinstance(tag, Enum) else tag)
        if place.owner in self.apps[1:] and (title := title_of(place.owner)):
            yield title


def title_of(app: Starlette | None) -> str:
    """The title that somebody gave to an application; empty for the default."""
    title = getattr(app, "title", "")
    return "" if title == DEFAULT_TITLE else title


def _apps(application: Any, places: Iterable[Place]) -> list[Starlette]:
    """The applications, the outermost first."""
    roots = [root for root in catalogue.roots(application) if isinstance(root, FastAPI)]
    owners = [place.owner for place in places if isinstance(place.owner, FastAPI)]
    return list(dict.fromkeys([*roots, *owners]))


def _is_published(route: Any) -> bool:
    return isinstance(route, WebSocketRoute) and getattr(route, "include_in_schema", True)


def _contract(route: Any) -> Contract | None:
    return route.contract if isinstance(route, APIWebSocketRoute) else None


def _contracts(places: Iterable[Place]) -> Iterator[Contract]:
    return filter(None, (_contract(place.route) for place in places))


def _parameters(route: Any) -> list[Parameter]:
    return parameters_of(route.plan) if isinstance(route, APIWebSocketRoute) else []


def _steps(route: Any) -> tuple[Step, ...]:
    return route.plan.steps if isinstance(route, APIWebSocketRoute) else ()


def _message_requirements(route: Any, contract: Contract | None) -> dict[str, list[str]]:
    dispatch = getattr(getattr(route, "messages", None), "dispatch", None)
    if dispatch is None or contract is None:
        return {}
    needed = {kind: _needed(dispatch.steps_of(kind)) for kind in contract.receives}
    return {_tag_of(kind, contract): found for kind, found in needed.items() if found}


def _needed(steps: Iterable[Any]) -> list[str]:
    return access.requirements(step.call for step in steps)


def _tag_of(kind: Any, contract: Contract) -> str:
    """The tag of a message that clients send; its class without one."""
    return next((str(tag) for tag, member in contract.received_by_tag.items() if member is kind), str(kind))


def _address(place: Place) -> str:
    return CONVERTOR.sub(r"{\1}", place.prefix + place.route.path)


def _keys(places: list[Place]) -> list[str]:
    """The names of the routes, with the path where several have the same."""
    names = [_key(place.names + place.route.name) for place in places]
    counts = Counter(names)
    found: list[str] = []
    for place, name in zip(places, names, strict=True):
        stem = key = name if counts[name] == 1 else f"{name}.{_key(place.host_prefix + place.route.path)}"
        number = 1
        while key in found:
            number += 1
            key = f"{stem}.{number}"
        found.append(key)
    return found


def _key(text: str) -> str:
    return NOT_IN_KEYS.sub("-", text).strip("-") or "route"


def _close_codes(
    route: Any, contract: Contract | None, has_parameters: bool, has_requirements: bool
) -> Iterator[tuple[int, str]]:
    limits = route.limits.get
    typed = contract is not None and contract.enforced
    applies = {
        1003: typed,
        1007: typed,
        1008: has_parameters,
        1009: limits("max_message_size") is not None or "max_message_size" not in route.limits.options,
        4401: has_requirements,
        4403: has_requirements,
        4408: limits("idle_timeout") or limits("max_age"),
        4422: typed,
        4429: limits("rate_limit"),
    }
    return ((code, text) for code, text in CLOSE_CODES.items() if applies.get(code, True))
