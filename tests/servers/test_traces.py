"""Traces of two servers with one Redis: a delivery is linked to the send in the other process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.client import open_socket
from tests.servers.conftest import Running, Server, wait_for

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")

pytestmark = [pytest.mark.servers, pytest.mark.redis]

SITE = "tests.servers.traced:application"

Span = dict[str, Any]


def spans(file: Path, name: str) -> list[Span]:
    """The spans of this name that a server has written whole."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [span for span in found if span["name"] == name]


@pytest.mark.parametrize("backend", ["core.RedisChannelLayer", "pubsub.RedisPubSubChannelLayer"])
def test_delivery_is_linked_to_the_send_in_another_process(
    redis_server: RedisServer, daphne: Server, uvicorn: Server, tmp_path: Path, backend: str
) -> None:
    layer = {"BACKEND": f"channels_redis.{backend}", "CONFIG": {"hosts": redis_server.hosts}}
    values = json.dumps({"CHANNEL_LAYERS": {"default": layer}})

    def start(server: Server) -> Running:
        env = {"SETTINGS": values, "SPANS": str(tmp_path / server.name)}
        return server.start(
            "tests.servers.traced:application", settings="tests.servers.django_settings", env=env
        )

    one, other = start(daphne), start(uvicorn)
    with open_socket(one, "/ws/1") as sender, open_socket(other, "/ws/1") as receiver:
        assert (sender.recv(timeout=20), receiver.recv(timeout=20)) == ("ready", "ready")
        sender.send("hello")
        assert (sender.recv(timeout=20), receiver.recv(timeout=20)) == ("hello", "hello")
        deliveries = [tmp_path / server.name for server in (daphne, uvicorn)]
        wait_for(lambda: all(spans(file, "deliver group") for file in deliveries))
    [sent] = spans(tmp_path / "daphne", "send group")
    assert sent["kind"] == "SpanKind.PRODUCER"
    assert spans(tmp_path / "uvicorn", "send group") == []
    for file in deliveries:
        [delivered] = spans(file, "deliver group")
        assert (delivered["kind"], delivered["parent_id"]) == ("SpanKind.CONSUMER", None)
        [link] = delivered["links"]
        assert link["context"]["trace_id"] == sent["context"]["trace_id"]
        assert link["context"]["span_id"] == sent["context"]["span_id"]
        assert delivered["context"]["trace_id"] != sent["context"]["trace_id"]
        assert delivered["attributes"]["fastws.members"] == 1
