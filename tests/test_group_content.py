"""The values that a group message may contain, at every depth and with every way to send."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from django.contrib.auth.models import Group as UserGroup
from django.contrib.auth.models import User
from django.db import models
from django.utils import translation
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.safestring import mark_safe
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, Field, RootModel, SecretStr, computed_field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fastws_compat import WebSocket
from fastws_compat.groups import Group, on, record
from fastws_compat.layers import client as layers
from fastws_compat.layers.wire import encode
from tests.fake_server import CONNECT, FakeServer, websocket_scope
from tests.test_groups import member_app, opened, run
from tests.test_groups import registered as registered

LAYERS = [{}, {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}]
SECRET = "pbkdf2_sha256$1$leaked"


class Status(models.TextChoices):
    PAID = "paid", gettext_lazy("Monday")


class Level(models.IntegerChoices):
    HIGH = 3, gettext_lazy("Tuesday")


class Colour(enum.StrEnum):
    RED = "red"


class Weekday(enum.Enum):
    MONDAY = gettext_lazy("Monday")


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    x: Any


@pydantic_dataclass
class Checked:
    x: Any = Field(serialization_alias="ex")


class Model(BaseModel):
    x: Any


class Declared(BaseModel):
    x: str


class Aliased(BaseModel):
    day: date = Field(serialization_alias="on")


@pytest.fixture(params=LAYERS, ids=["no layer", "in-memory layer"])
def layer(request: Any, settings: Any) -> Any:
    settings.CHANNEL_LAYERS = request.param
    layers.health.cache_clear()
    layers.local_layer.cache_clear()
    return layers.layer_of("default")


def user() -> User:
    return User(pk=1, username="ann", password=SECRET)


def queried() -> User:
    return User.objects.get(pk=1)


# ---- What arrives -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (gettext_lazy("Monday"), "Montag"),
        (format_lazy("{}!", gettext_lazy("Monday")), "Montag!"),
        (Status.PAID, "paid"),
        (Status.PAID.label, "Montag"),
        (Level.HIGH, 3),
        (Level.HIGH.label, "Dienstag"),
        (Status.choices, [["paid", "Montag"]]),
        (Colour.RED, "red"),
        (Weekday.MONDAY, "Montag"),
        (mark_safe("<b>"), "<b>"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (time(3, 4), "03:04:00"),
        (timedelta(seconds=90), 90.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), 1.5),
        (Decimal("2"), 2),
        ({"a"}, ["a"]),
        (frozenset({Colour.RED}), ["red"]),
        (
            Point(date(2026, 1, 2), Aliased(day=date(2026, 1, 3))),
            {"x": "2026-01-02", "y": {"on": "2026-01-03"}},
        ),
        (Slotted(gettext_lazy("Monday")), {"x": "Montag"}),
        (Checked(x=gettext_lazy("Monday")), {"ex": "Montag"}),
        (Model(x={"deep": [gettext_lazy("Monday")]}), {"x": {"deep": ["Montag"]}}),
        (RootModel[list[date]]([date(2026, 1, 2)]), ["2026-01-02"]),
        (RootModel[Any]({"a": Point(1)}), {"a": {"x": 1, "y": None}}),
    ],
)
def test_values_arrive_as_json(value: Any, arrives: Any) -> None:
    with translation.override("de"):
        for message in ({"a": value}, [value], {"a": [{"b": (value,)}]}, Point(value), Model(x=value)):
            data = json.loads(encode(message).data)
            while data != arrives and isinstance(data, (dict, list)):
                data = next(iter(data.values())) if isinstance(data, dict) else data[0]
            # Inside a pydantic model, pydantic writes these in its own way.
            if not (isinstance(message, Model) and isinstance(value, (timedelta, Decimal, datetime))):
                assert data == arrives, message


@pytest.mark.parametrize(
    ("key", "arrives"),
    [
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (gettext_lazy("Monday"), "Monday"),
        (Status.PAID, "paid"),
        (Weekday.MONDAY, "Monday"),
        (Level.HIGH, "3"),
        (None, "null"),
        (Decimal("1.5"), "1.5"),
    ],
)
def test_keys_arrive_as_text(key: Any, arrives: str) -> None:
    assert json.loads(encode({"a": [{key: date(2026, 1, 2)}]}).data) == {"a": [{arrives: "2026-01-02"}]}
    assert json.loads(encode(Point({key: {1: 2}})).data)["x"] == {arrives: {"1": 2}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (gettext_lazy("Monday"), "Montag"),
        (Status.PAID, "paid"),
        (Colour.RED, "red"),
        (mark_safe("<b>"), "<b>"),
    ],
)
def test_text_is_sent_as_a_plain_str(message: Any, text: str) -> None:
    with translation.override("de"):
        payload = encode(message)
    assert (payload.kind, payload.data, type(payload.data)) == ("text", text, str)


@pytest.mark.parametrize(
    "message", [Point(1), Slotted(1), Checked(x=1), Model(x=1), RootModel[list[int]]([1])]
)
def test_models_and_dataclasses_are_messages(message: Any) -> None:
    assert "1" in str(json.loads(encode(message).data))


def test_a_computed_field_may_query_when_sync_code_sends(layer: Any) -> None:
    class Counted(BaseModel):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def thread_without_loop(self) -> bool:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return True

    with record() as sent:
        Group("g").send(Counted())
        Group("g").send({"a": Counted()})
    assert len(sent) == 2


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_sends_the_message_as_it_was_when_called(layer: Any) -> None:
    """In the language and with the content at the time of sending."""
    from django.db import transaction

    message = {"day": gettext_lazy("Monday")}
    with record() as sent, transaction.atomic():
        with translation.override("de"):
            Group("g").send_on_commit(message)
        message["day"] = "changed"
    assert [item.payload.data for item in sent] == ['{"day":"Montag"}']


# ---- What is refused --------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "model instance": (user, "User"),
    "another model": (lambda: UserGroup(pk=1, name=SECRET), "Group"),
    "queryset": (lambda: User.objects.all(), "QuerySet"),
    "values": (lambda: User.objects.values("password"), "QuerySet"),
    "values_list": (lambda: User.objects.values_list("password"), "QuerySet"),
    "raw": (lambda: User.objects.raw("select * from auth_user"), "RawQuerySet"),
    "manager": (lambda: User.objects, "UserManager"),
    "lazy user": (lambda: SimpleLazyObject(user), "SimpleLazyObject"),
    "lazy user who needs a query": (lambda: SimpleLazyObject(queried), "SimpleLazyObject"),
    "lazy text in a SimpleLazyObject": (lambda: SimpleLazyObject(lambda: SECRET), "SimpleLazyObject"),
    "lazy dict": (lambda: lazy(lambda: {"password": SECRET}, dict)(), "__proxy__"),
    "generator": (lambda: (item for item in [SECRET]), "generator"),
    "bytes": (lambda: SECRET.encode(), "bytes"),
    "bytearray": (lambda: bytearray(b"x"), "bytearray"),
    "path": (lambda: Path("/etc/passwd"), "PosixPath"),
    "pattern": (lambda: re.compile(SECRET), "Pattern"),
    "address": (lambda: IPv4Address("10.0.0.1"), "IPv4Address"),
    "secret": (lambda: SecretStr(SECRET), "SecretStr"),
    "object with attributes": (lambda: SimpleNamespace(password=SECRET), "SimpleNamespace"),
    "exception": (lambda: ValueError(SECRET), "ValueError"),
    "mock": (MagicMock, "MagicMock"),
    "class": (lambda: User, "ModelBase"),
    "function": (lambda: user, "function"),
    "dict view": (lambda: {"a": SECRET}.values(), "dict_values"),
    "complex": (lambda: 1j, "complex"),
}
# pydantic itself serializes these if a field accepts them.
DECLARED = {"bytes", "bytearray", "path", "pattern", "address", "secret", "generator", "mock", "complex"}
HASHABLE = {
    *("model instance", "another model", "manager", "lazy user", "generator", "bytes", "path", "pattern"),
    *("address", "secret", "exception", "mock", "class", "function", "complex"),
}
NESTS: dict[str, Callable[[Any], Any]] = {
    "value": lambda value: {"a": value},
    "item": lambda value: [value],
    "tuple": lambda value: {"a": (1, value)},
    "deep": lambda value: {"a": [{"b": [{"c": value}]}]},
    "dataclass": Point,
    "slots": Slotted,
    "dataclass inside": lambda value: [Point(Slotted(value))],
    "beside a key": lambda value: {UUID(int=1): value},
}
MODELS: dict[str, Callable[[Any], Any]] = {
    "model": lambda value: Model(x=value),
    "model inside": lambda value: {"a": [Model(x=value)]},
    "model in a model": lambda value: Model(x={"a": Model(x=[value])}),
    "model in a dataclass": lambda value: Point(Model(x=value)),
    "dataclass in a model": lambda value: Model(x=Point(value)),
    "pydantic dataclass": lambda value: Checked(x=value),
    "pydantic dataclass inside": lambda value: {"a": Checked(x=value)},
    "root model": lambda value: RootModel[Any](value),
}
CASES = [
    *(
        pytest.param(make, name, nest, id=f"{what}-{where}")
        for what, (make, name) in REFUSED.items()
        for where, nest in NESTS.items()
    ),
    *(
        pytest.param(make, name, nest, id=f"{what}-{where}")
        for what, (make, name) in REFUSED.items()
        if what not in DECLARED
        for where, nest in MODELS.items()
    ),
]


@pytest.mark.parametrize(("make", "name", "nest"), CASES)
def test_a_value_unknown_to_json_is_refused_by_name(make: Any, name: str, nest: Any) -> None:
    async def in_async_code() -> None:
        with pytest.raises(TypeError, match=rf"\b{name}\b.*pydantic model") as caught:
            encode(nest(make()))
        assert SECRET not in str(caught.value)

    asyncio.run(in_async_code())


@pytest.mark.parametrize(("make", "name"), [case for what, case in REFUSED.items() if what in HASHABLE])
def test_a_key_unknown_to_json_is_refused_by_name(make: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\b"):
        encode({"a": {make(): 1}})


def test_a_model_instance_behind_a_declared_field_is_refused() -> None:
    with pytest.raises(TypeError, match="User"):
        encode(Declared.model_construct(x=user()))


@pytest.mark.parametrize("what", [name for name in REFUSED if name not in ("bytes", "bytearray")])
def test_a_message_of_an_unknown_type_is_refused(what: str) -> None:
    make, name = REFUSED[what]
    with pytest.raises(
        TypeError, match=rf"A group message must be a dict.*not {name}: send a .*pydantic model"
    ):
        encode(make())


@pytest.mark.parametrize("key", [(1, 2), Point(1, 2), frozenset({1})])
def test_a_container_cannot_be_a_key(key: Any) -> None:
    with pytest.raises(TypeError):
        encode({key: 1})


def test_a_circular_reference_is_a_value_error() -> None:
    circle: list[Any] = []
    circle.append({"a": circle})
    with pytest.raises(ValueError, match="Circular"):
        encode(circle)


# ---- Every way to send ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("send", ["send", "send_on_commit", "asend"])
@pytest.mark.parametrize("group", [Group("g"), Group("g", type="chat.message"), Group.for_user(User(pk=1))])
def test_every_way_to_send_refuses_before_anything_is_sent(layer: Any, send: str, group: Group) -> None:
    with record() as sent:
        with pytest.raises(TypeError, match="User"):
            if send == "asend":
                asyncio.run(group.asend({"user": user()}))
            else:
                getattr(group, send)({"user": user()})
    assert sent == []


def test_a_socket_receives_nothing_of_a_refused_message(layer: Any) -> None:
    async def main() -> None:
        async with opened(member_app("g")) as socket:
            with pytest.raises(TypeError, match="SimpleLazyObject"):
                await Group("g").asend({"user": SimpleLazyObject(queried)})
            await Group("g").asend({"day": gettext_lazy("Monday")})
            assert await socket.text() == '{"day":"Monday"}'

    run(main)


@pytest.mark.usefixtures("registered")
def test_a_handlers_result_is_refused_and_named_in_the_log(layer: Any, caplog: Any) -> None:
    @on("order.paid")
    def paid(message: dict[str, Any]) -> Any:
        return {"user": user()} if message["bad"] else {"fine": True}

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            await layer.group_send("g", {"type": "order.paid", "bad": True})
            await layer.group_send("g", {"type": "order.paid", "bad": False})
            assert await socket.text() == '{"fine":true}'

    run(main)
    assert "cannot contain User" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "value", [user(), SimpleLazyObject(user), gettext_lazy("x"), b"x", SimpleNamespace()]
)
def test_send_json_refuses_as_fastapi_does(value: Any) -> None:
    async def main() -> None:
        server = FakeServer(CONNECT)
        websocket = WebSocket(websocket_scope(), server.receive, server.send)
        await websocket.accept()
        with pytest.raises(TypeError, match="not JSON serializable"):
            await websocket.send_json({"a": value})
        assert server.types == ["websocket.accept"]

    asyncio.run(main())
