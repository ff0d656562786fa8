"""What groups keep: FASTWS["GROUPS"], `declare`, and the checks of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastws_compat.checks.kinds import check_kinds
from fastws_compat.checks.settings import check_settings
from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups import declare, kinds
from fastws_compat.groups.kinds import History, Kind, Presence, State, kind_of, kind_with


@pytest.fixture(autouse=True)
def nothing_declared(settings: Any) -> Iterator[None]:
    settings.FASTWS = {}
    kinds.declared.clear()
    kinds._found.clear()
    yield
    kinds.declared.clear()
    kinds._found.clear()


def test_a_group_without_a_kind(settings: Any) -> None:
    assert kind_of("room.7") is None
    settings.FASTWS = {"GROUPS": {"board.*": {"history": True}}}
    assert kind_of("room.7") is None


def test_true_stands_for_the_defaults(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True, "presence": True, "state": True}}}
    assert kind_of("room.7") == Kind(
        "room.*", History(100, 300, 65_536, "deliver"), Presence(10, 1000), State(100, 65_536)
    )


def test_options_replace_some_of_the_defaults(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": {"room.*": {"history": {"count": 200, "age": 3600}, "presence": False}}}
    assert kind_of("room.7") == Kind("room.*", History(200, 3600))


def test_the_first_pattern_that_fits_counts(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": {"room.1": {"history": True}, "room.*": {"presence": True}}}
    assert kind_of("room.1") == Kind("room.1", history=History())
    assert kind_of("room.2") == Kind("room.*", presence=Presence())


def test_declared_in_code(settings: Any) -> None:
    declare("room.*", history={"count": 3})
    assert kind_of("room.7") == Kind("room.*", History(3))
    declare("room.*", presence=True)
    assert kind_of("room.7") == Kind("room.*", presence=Presence())
    settings.FASTWS = {"GROUPS": {"room.7": {"history": True}}}
    assert kind_of("room.7") == Kind("room.7", History())


def test_values_need_a_history() -> None:
    declare("board.*", state={"keys": 5})
    assert kind_of("board.1") == Kind("board.*", History(), state=State(5))


def test_the_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MAX_NAMES", 3)
    for number in range(10):
        kind_of(f"room.{number}")
    assert len(kinds._found) <= 3


def test_what_a_kind_lacks(settings: Any) -> None:
    with pytest.raises(GroupKindError, match=r"'room.7' has no kind.*FASTWS.*\"history\": True"):
        kind_with("room.7", "history")
    declare("room.*", history=True)
    assert kind_with("room.7", "history").history == History()
    with pytest.raises(GroupKindError, match=r"The kind 'room\.\*' has no presence.*\"presence\": True"):
        kind_with("room.7", "presence")


WRONG: list[tuple[Any, str]] = [
    ({3: {"history": True}}, "a str as its key"),
    ({"room.*": True}, "a dict as its value"),
    ({"room.*": {"histroy": True}}, "unknown key, 'histroy'. The keys are history, presence, state"),
    ({"room.*": {"history": "yes"}}, "must be True, False or a dict of options, not 'yes'"),
    ({"room.*": {"history": {"size": 3}}}, "unknown key, 'size'. The keys are count, age, bytes, on_failure"),
    ({"room.*": {"history": {"count": 0}}}, "must be a positive integer, not 0"),
    ({"room.*": {"history": {"count": True}}}, "must be a positive integer, not True"),
    ({"room.*": {"history": {"age": 0}}}, "must be a positive number of seconds, not 0"),
    ({"room.*": {"history": {"age": float("inf")}}}, "must be a positive number of seconds"),
    ({"room.*": {"history": {"bytes": "1"}}}, "must be a positive integer, not '1'"),
    ({"room.*": {"history": {"on_failure": "drop"}}}, "must be 'deliver' or 'raise', not 'drop'"),
    ({"room.*": {"presence": {"linger": -1}}}, "must be a number of seconds"),
    ({"room.*": {"presence": {"limit": -1}}}, "must be an integer"),
    ({"room.*": {"state": {"keys": 1.5}}}, "must be a positive integer, not 1.5"),
]


@pytest.mark.parametrize(("patterns", "problem"), WRONG)
def test_a_kind_that_is_not_valid(settings: Any, patterns: Any, problem: str) -> None:
    settings.FASTWS = {"GROUPS": patterns}
    [found] = check_kinds()
    assert found.id == "fastws.E011"
    assert problem in found.msg
    with pytest.raises(GroupKindError) as info:
        kind_of("room.7")
    assert str(info.value) == found.msg
    settings.FASTWS = {}
    assert kind_of("room.7") is None


def test_kinds_that_are_no_dict(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": ["room.*"]}
    assert check_kinds() == []
    assert [found.id for found in check_settings()] == ["fastws.E008"]
    with pytest.raises(GroupKindError, match="must be a dict of patterns, not a list"):
        kind_of("room.7")


def test_drop_oldest_with_a_history(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}, "SLOW_CONSUMER": "drop_oldest"}
    assert [found.id for found in check_kinds()] == ["fastws.W016"]
    settings.FASTWS = {"GROUPS": {"room.*": {"presence": True}}, "SLOW_CONSUMER": "drop_oldest"}
    assert check_kinds() == []
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    assert check_kinds() == []


@pytest.mark.parametrize(
    "store",
    [
        "auto",
        "memory",
        {"default": ["redis://localhost:6379/1"]},
        {"default": "fastws_compat.groups.declare"},
    ],
)
def test_stores(settings: Any, store: Any) -> None:
    settings.FASTWS = {"STORE": store}
    assert check_settings() == []


@pytest.mark.parametrize(
    "values",
    [
        {"STORE": "redis"},
        {"STORE": {"default": []}},
        {"STORE": {"default": "no.such.store"}},
        {"STORE": {"default": "redis://localhost"}},
        {"STORE_DURABLE": 1},
        {"CHECK_SECONDS": 0},
        {"PRESENCE_TTL": -1},
        {"BEAT_SECONDS": "25"},
        {"RING_BYTES": 0},
        {"RECONNECT_SPREAD": -1},
    ],
)
def test_settings_that_are_not_valid(settings: Any, values: dict[str, Any]) -> None:
    settings.FASTWS = values
    assert [found.id for found in check_settings()] == ["fastws.E008"]


@pytest.mark.parametrize("layer", ["pubsub.RedisPubSubChannelLayer", "core.RedisChannelLayer"])
def test_a_store_in_memory_for_a_layer_between_processes(settings: Any, layer: str) -> None:
    backend = {"BACKEND": f"channels_redis.{layer}", "CONFIG": {"hosts": ["redis://127.0.0.1:1"]}}
    settings.CHANNEL_LAYERS = {"default": backend}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}, "STORE": "memory"}
    assert [found.id for found in check_kinds()] == ["fastws.W019"]
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    assert check_kinds() == []
    memory = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": memory}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}, "STORE": "memory"}
    assert check_kinds() == []


def test_a_layer_without_a_store(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_stores.Foreign"}}
    settings.FASTWS = {"GROUPS": {"room.*": {"presence": True}}}
    assert [found.id for found in check_kinds()] == ["fastws.W018"]
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}, "STORE": "memory"}
    assert check_kinds() == []
    settings.FASTWS = {"GROUPS": {"room.*": {"history": False}}}
    assert check_kinds() == []
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.layer"}}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    assert check_kinds() == []
