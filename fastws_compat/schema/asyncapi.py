"""The AsyncAPI document of a project: byte for byte the same on each run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastws_compat.schema.definitions import Schema, reachable, references
from fastws_compat.schema.description import CONVERTOR, Channel, Site, title_of
from fastws_compat.schema.parameters import Parameter
from fastws_compat.schema.vocabulary import Message

VERSION = "3.1.0"
BINDING = "0.1.0"
PROTOCOLS = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
# By the name of a convertor, the schema of what it finds.
CONVERTORS = {
    "IntegerConvertor": {"type": "integer"},
    "FloatConvertor": {"type": "number"},
    "UUIDConvertor": {"type": "string", "format": "uuid"},
}

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")
EMPTY: tuple[Any, ...] = (None, "", [], {})

Object = dict[str, Any]


def document(
    site: Site,
    *,
    server: str | None = None,
    here: str | None = None,
    prefix: str = "",
    version: str = VERSION,
) -> Object:
    """The document.

    `server`, such as `wss://host/prefix`, takes the place of the servers that the applications declare, and
    `here` stands before them. `prefix` is the path of those that have none.
    """
    servers = _servers(site, server, here, prefix)
    channels = {channel.key: _channel(site, channel, list(servers)) for channel in site.channels}
    servers |= _host_servers(site, prefix)
    operations = {key: found for channel in site.channels for key, found in _operations(channel).items()}
    return _filled(
        {
            "asyncapi": version,
            "info": info(site),
            "defaultContentType": "application/json",
            "servers": servers,
            "channels": channels,
            "operations": operations,
            "components": _components(site),
        },
        always=("channels", "info"),
    )


def text(document: Object) -> str:
    """The document as it is written to a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _filled(found: Mapping[str, Any], always: Iterable[str] = ()) -> Object:
    """The object without its empty values."""
    kept = (*always,)
    return {name: value for name, value in found.items() if name in kept or value not in EMPTY}


def _tag_objects(names: Iterable[str]) -> list[Object]:
    return [{"name": name} for name in names]


# Info and servers


def info(site: Site) -> Object:
    """What the document says about the project."""
    app: Any = site.apps[0] if site.apps else None
    extra: Mapping[str, Any] = getattr(app, "extra", {})
    texts = [getattr(app, "summary", None), getattr(app, "description", None)]
    titles = dict.fromkeys(filter(None, map(title_of, site.apps[1:])))
    return _filled(
        {
            "title": getattr(app, "title", "WebSockets"),
            "version": getattr(app, "version", "0.1.0"),
            "description": "\n\n".join(filter(None, texts)),
            "termsOfService": extra.get("terms_of_service"),
            "contact": _only(extra.get("contact"), "name", "url", "email"),
            "license": _only(extra.get("license_info"), "name", "url"),
            "tags": _tag_objects(titles),
        },
        always=("title", "version"),
    )


def _only(found: Mapping[str, Any] | None, *names: str) -> Object:
    return {name: str(found[name]) for name in names if found and found.get(name)}


def _servers(site: Site, server: str | None, here: str | None, prefix: str) -> Object:
    urls = [{"url": url} for url in (server, here) if url is not None]
    declared = [] if server is not None else _declared(site)
    return _numbered([*urls, *declared], prefix)


def _declared(site: Site) -> list[Mapping[str, Any]]:
    return [found for app in site.apps for found in getattr(app, "extra", {}).get("servers") or []]


def _numbered(declared: Iterable[Mapping[str, Any]], prefix: str) -> Object:
    """Server Objects by name, each address once; a relative URL, which names no host, is left out."""
    found: dict[tuple[str, ...], Object] = {}
    for one in declared:
        if _has_host(url := urlsplit(one["url"])):
            server = _server(one, url, prefix)
            found.setdefault((server["protocol"], server["host"], server.get("pathname", "")), server)
    return {f"site{number}" if number > 1 else "site": one for number, one in enumerate(found.values(), 1)}


def _has_host(url: SplitResult) -> bool:
    return bool(url.netloc) and url.scheme in PROTOCOLS and "{" not in url.netloc


def _server(declared: Mapping[str, Any], url: SplitResult, prefix: str) -> Object:
    return _filled(
        {
            "host": url.netloc,
            "protocol": PROTOCOLS[url.scheme],
            "pathname": url.path.rstrip("/") or prefix,
            "description": declared.get("description"),
        }
    )


def _host_servers(site: Site, prefix: str) -> Object:
    hosts = {host: None for channel in site.channels if (host := channel.place.host)}
    return {_host_key(host): _host_server(host, prefix) for host in hosts}


def _host_server(host: str, prefix: str) -> Object:
    variables = {name: {"description": "A part of the host name."} for name in CONVERTOR.findall(host)}
    plain = CONVERTOR.sub(r"{\1}", host)
    return _filled({"host": plain, "protocol": "wss", "pathname": prefix, "variables": variables})


def _host_key(host: str) -> str:
    return NOT_IN_NAMES.sub("-", host).strip("-")


# Channels


def _channel(site: Site, channel: Channel, servers: list[str]) -> Object:
    host = channel.place.host
    names = [_host_key(host)] if host else servers
    return _filled(
        {
            "address": channel.address,
            "title": channel.title,
            "summary": channel.summary,
            "description": _description(channel),
            "servers": _references("servers", names),
            "parameters": {name: _path_parameter(site, channel, name) for name in channel.path_names},
            "messages": _messages(channel),
            "bindings": {"ws": _binding(site, channel)},
            "tags": _tag_objects(channel.tags),
            "x-deprecated": channel.deprecated or None,
            "x-permissions": list(channel.permissions),
            "x-limits": channel.limits,
            "x-close-codes": {str(code): said for code, said in channel.close_codes.items()},
        }
    )


def _messages(channel: Channel) -> Object:
    keys = [message.key for message in (*channel.spoken.received, *channel.spoken.sent)]
    return {key: {"$ref": f"#/components/messages/{key}"} for key in keys}


def _description(channel: Channel) -> str:
    parts = [channel.description]
    if channel.requirements:
        parts.append(f"Requires {'; '.join(channel.requirements)}.")
    for name, needed in channel.message_requirements.items():
        parts.append(f"The message `{name}` requires {'; '.join(needed)}.")
    rows = [f"| {code} | {said} |" for code, said in channel.close_codes.items()]
    parts.append("\n".join(["| close code | when |", "| --- | --- |", *rows]))
    return "\n\n".join(filter(None, parts))


def _path_parameter(site: Site, channel: Channel, name: str) -> Object:
    schema = path_schema(site, channel, name)
    return _filled(
        {
            "description": schema.get("description"),
            "enum": _as_texts(_choices(site, schema)),
            "examples": _as_texts(schema.get("examples", ())),
            "x-schema": _without(schema, "description", "examples"),
        }
    )


def path_schema(site: Site, channel: Channel, name: str) -> Schema:
    """The schema of a path parameter, by its declaration or else by its convertor."""
    found = [parameter for parameter in channel.of("path") if parameter.name == name]
    return site.schema(found[0]) if found else _converted(channel, name)


def _as_texts(values: Iterable[Any]) -> list[str]:
    return list(map(as_text, values))


def _without(found: Object, *names: str) -> Object:
    return {name: value for name, value in found.items() if name not in names}


def _converted(channel: Channel, name: str) -> Object:
    convertor = channel.place.route.param_convertors.get(name)
    return CONVERTORS.get(type(convertor).__name__, {"type": "string"})


def _choices(site: Site, schema: Object) -> list[Any]:
    """The values of a `Literal` or of an enum."""
    inner = schema.get("allOf", [schema])[0]
    for name in references(inner):
        inner = site.vocabulary.schemas.get(name, {})
    return [inner["const"]] if "const" in inner else inner.get("enum", [])


def as_text(value: Any) -> str:
    """A value as it is written in a URL."""
    return value if isinstance(value, str) else json.dumps(value)


def _binding(site: Site, channel: Channel) -> Object:
    return _filled(
        {
            "method": "GET",
            "query": _object(site, channel.of("query")),
            "headers": _object(site, channel.of("header")),
            "x-cookies": _object(site, channel.of("cookie")),
            "bindingVersion": BINDING,
        }
    )


def _object(site: Site, parameters: list[Parameter]) -> Object:
    if not parameters:
        return {}
    required = [parameter.name for parameter in parameters if parameter.required]
    properties = {parameter.name: site.schema(parameter) for parameter in parameters}
    return _filled({"type": "object", "required": required, "properties": properties})


# Operations


def _operations(channel: Channel) -> Object:
    """The operations of a route, seen from the application: it receives what clients send."""
    calls = [message for message in channel.spoken.received if message.key in channel.spoken.replies]
    plain = [message for message in channel.spoken.received if message not in calls]
    found = {f"{channel.key}.receive": _operation(channel, "receive", plain)}
    found |= {f"{channel.key}.receive.{call.key}": _call(channel, call) for call in calls}
    found[f"{channel.key}.send"] = _operation(channel, "send", channel.spoken.sent)
    return {key: operation for key, operation in found.items() if "messages" in operation}


def _call(channel: Channel, call: Message) -> Object:
    replies = _message_refs(channel, channel.spoken.replies[call.key])
    reply = {"channel": {"$ref": f"#/channels/{channel.key}"}, "messages": replies}
    return {**_operation(channel, "receive", [call]), "reply": reply}


def _operation(channel: Channel, action: str, messages: Iterable[Message]) -> Object:
    return _filled(
        {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel.key}"},
            "summary": channel.summary,
            "security": _references("components/securitySchemes", channel.schemes),
            "tags": _tag_objects(channel.tags),
            "messages": _message_refs(channel, messages),
        }
    )


def _message_refs(channel: Channel, messages: Iterable[Message]) -> list[Object]:
    return _references(f"channels/{channel.key}/messages", (message.key for message in messages))


def _references(place: str, names: Iterable[str]) -> list[Object]:
    return [{"$ref": f"#/{place}/{name}"} for name in dict.fromkeys(names)]


# Components


def _components(site: Site) -> Object:
    messages = {key: _message(message) for key, message in sorted(site.vocabulary.messages.items())}
    parameters = [site.schema(parameter) for channel in site.channels for parameter in channel.parameters]
    used = reachable(references([*messages.values(), *parameters]), site.vocabulary.schemas)
    return _filled(
        {
            "securitySchemes": dict(sorted(site.schemes.objects.items())),
            "messages": messages,
            "schemas": {
                name: schema for name, schema in sorted(site.vocabulary.schemas.items()) if name in used
            },
        }
    )


def _message(message: Message) -> Object:
    return _filled(
        {
            "name": message.name,
            "title": message.title,
            "summary": message.summary,
            "contentType": message.content_type,
            "correlationId": {"location": "$message.payload#/id"} if message.has_id else None,
            "payload": message.payload,
            "examples": [{"payload": example} for example in message.examples],
        },
        always=("payload",),
    )
