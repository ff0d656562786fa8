"""The garbage collector leaves out what has survived a full pass, on both servers."""

from __future__ import annotations

import json

import pytest

from fastws_compat import collector
from tests.servers.client import open_socket
from tests.servers.conftest import Server

APP = "tests.servers.frozen:application"


@pytest.mark.skipif(collector.IS_INCREMENTAL, reason="the collector is incremental")
def test_what_survives_a_collection_is_frozen_unless_the_setting_is_off(server: Server) -> None:
    found = counts(server)
    assert found["at first"] > 10_000
    assert found["later"] > 10_000
    assert counts(server, FASTWS='{"GC_FREEZE": false}') == {"at first": 0, "later": 0, "kept": 20_000}


def counts(server: Server, **env: str) -> dict[str, int]:
    with open_socket(server.shared(APP, env=env), "/new") as client:
        found: dict[str, int] = json.loads(client.recv(timeout=60))
        return found
