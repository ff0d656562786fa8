"""Which changes of users are published to other processes, and what happens while the channel layer fails."""

import asyncio
import gc
import threading
import time

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User

from fastws_compat.auth import login_required, user_passes_test
from fastws_compat.layers import outbox
from fastws_compat.layers.outbox import Outbox
from fastws_compat.logins import remote
from tests.redis_server import redis_server
from tests.test_revalidation import Layer, committed, connected, deactivate, end_of, layer, nothing_is_left
from tests.users import make_user

__all__ = ["committed", "layer", "nothing_is_left", "redis_server"]  # fixtures
pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


class OwnBackend(ModelBackend):
    def get_user(self, user_id):
        return User.objects.filter(pk=user_id, first_name="").first()


@pytest.mark.parametrize(
    ("fields", "backend", "declared", "is_published"),
    [
        (["first_name"], None, None, False),
        (["first_name", "last_login"], None, None, False),
        (["first_name", "is_active"], None, None, True),
        (["password"], None, None, True),
        (["is_staff"], None, None, True),
        (["is_superuser"], None, None, True),
        (None, None, None, True),
        (["first_name"], OwnBackend, None, True),
        (["last_login"], OwnBackend, None, False),
        (["first_name"], None, ["first_name"], True),
        (["is_staff"], None, ["first_name"], False),
    ],
)
def test_fields_whose_change_is_published(layer, settings, fields, backend, declared, is_published):
    ann = make_user()
    if backend is not None:
        settings.AUTHENTICATION_BACKENDS = [f"{__name__}.{backend.__name__}"]
    settings.FASTWS = {"LOGIN_FIELDS": declared}
    layer.sent.clear()
    ann.save(update_fields=fields)
    assert [message["event"] for _, message in layer.sent] == ["recheck"] * is_published


@pytest.mark.parametrize("attribute", ["is_active", "get_session_auth_hash", "has_perm"])
def test_user_model_with_methods_of_its_own(layer, monkeypatch, attribute):
    ann = make_user()
    monkeypatch.setattr(User, attribute, property(lambda self: True) if attribute == "is_active" else len)
    layer.sent.clear()
    ann.save(update_fields=["first_name"])
    assert len(layer.sent) == 1


def test_test_of_the_project_is_repeated_in_this_process(layer):
    ann = make_user()
    with connected(ann, user_passes_test(lambda user: not user.first_name)) as websocket:
        layer.sent.clear()
        ann.last_name = ann.first_name = "Ann"
        ann.save(update_fields=["last_name"])
        assert end_of(websocket) == "open"
        ann.save(update_fields=["first_name"])
        assert end_of(websocket) == 4403
    assert layer.sent == []


def test_messages_wait_until_the_layer_is_back(layer, monkeypatch):
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 0.01)
    ann = make_user()
    with connected(ann, login_required) as websocket:
        layer.failing = True
        deactivate(ann)
        assert end_of(websocket) == 4401  # this process is not affected
    ann.save()
    layer.sent.clear()
    layer.failing = False
    wait_until(lambda: len(layer.sent) == 2)
    assert [message["users"] for _, message in layer.sent] == [[str(ann.pk)]] * 2
    ann.save()
    assert len(layer.sent) == 3


def test_a_layer_that_fails_again_is_tried_again(layer, monkeypatch):
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 0.01)
    attempts = []

    async def refuse(group, message):
        attempts.append(message)
        raise ConnectionError("no layer")

    monkeypatch.setattr(layer, "group_send", refuse)
    box = Outbox(layer, "group", {"event": "overflow"})
    asyncio.run(box.send({"number": 1}))
    wait_until(lambda: len(attempts) > 3)
    monkeypatch.undo()
    wait_until(lambda: layer.sent == [("group", {"number": 1})])
    assert {message["number"] for message in attempts} == {1}


def test_messages_for_a_layer_that_is_gone_are_dropped(caplog):
    box = Outbox(Layer(), "group", {"event": "overflow"})
    gc.collect()
    asyncio.run(box.send({"number": 1}))
    assert caplog.messages == []


def test_messages_that_wait_for_a_layer_that_goes_are_not_said_to_be_sent(caplog):
    caplog.set_level("INFO", "fastws_compat")
    layer = Layer()
    layer.failing = True
    box = Outbox(layer, "group", {"event": "overflow"})
    asyncio.run(box.send({"number": 1}))
    box._retry._timer.cancel()
    caplog.clear()
    box._layer = lambda: None  # a weak reference; the log of this test holds the layer itself
    asyncio.run(box.flush())
    assert caplog.messages == []


def test_overflow_replaces_the_waiting_messages(layer, monkeypatch):
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 60)
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    box = Outbox(layer, "group", {"event": "overflow"})
    layer.failing = True
    for number in range(5):
        asyncio.run(box.send({"number": number}))
    layer.failing = False
    asyncio.run(box.flush())
    box._retry._timer.cancel()
    assert [message for _, message in layer.sent] == [{"event": "overflow"}, {"number": 3}, {"number": 4}]


def test_overflow_while_messages_are_sent_is_sent_too(layer, monkeypatch):
    """Other processes would otherwise never learn of the messages that it replaces."""
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 60)
    monkeypatch.setattr(outbox, "MAX_WAITING", 2)
    box = Outbox(layer, "group", {"event": "overflow"})
    layer.failing = True
    for number in range(2):
        asyncio.run(box.send({"number": number}))
    layer.failing = False
    more = [[{"number": 2}], [{"number": 3}, {"number": 4}]]
    send = layer.group_send

    async def send_slowly(group, message):
        await send(group, message)
        for late in more.pop(0) if more else ():
            await box.send(late)

    monkeypatch.setattr(layer, "group_send", send_slowly)
    asyncio.run(box.flush())
    box._retry._timer.cancel()
    sent = [message for _, message in layer.sent]
    assert sent == [{"number": 0}, {"event": "overflow"}, {"event": "overflow"}, {"number": 4}]


def wait_until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.redis
def test_redis_that_hangs_delays_only_one_save(redis_server, settings):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": redis_server.hosts},
        }
    }
    ann = make_user()
    heard, ready, over = [], threading.Event(), threading.Event()

    async def listen():
        layer = remote.shared_layer()
        channel = await layer.new_channel()
        await layer.group_add(remote.GROUP, channel)
        hearing = asyncio.create_task(hear(layer, channel))
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.05)
        hearing.cancel()
        await layer.flush()

    async def hear(layer, channel):
        while True:
            heard.append(await layer.receive(channel))

    listener = threading.Thread(target=asyncio.run, args=(listen(),))
    listener.start()
    try:
        assert ready.wait(20)
        redis_server.freeze()
        seconds = [timed(ann.save) for _ in range(4)]
        assert seconds[0] >= outbox.SEND_TIMEOUT
        assert max(seconds[1:]) < outbox.SEND_TIMEOUT
        redis_server.thaw()
        wait_until(lambda: len(heard) >= 4)
    finally:
        over.set()
        listener.join()
    assert {message["event"] for message in heard} == {"recheck"}


def timed(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began
