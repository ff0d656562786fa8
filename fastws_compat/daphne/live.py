"""Channels' `ChannelsLiveServerTestCase` on the completed daphne; its own process class runs stock daphne."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import daphne.testing
from asgiref.sync import SyncToAsync

from fastws_compat.daphne.choice import choose
from fastws_compat.threads import pool


class LiveServerProcess(daphne.testing.DaphneProcess):  # type: ignore[misc]
    """The process of a live server. It is a module-level class so that `spawn` can pickle it."""

    def run(self) -> None:
        testing: Any = daphne.testing
        install_reactor = testing._reinstall_reactor

        def install_reactor_and_server() -> None:
            install_reactor()
            install_server()

        testing._reinstall_reactor = install_reactor_and_server
        replace_thread_pools()
        super().run()


def install_server() -> None:
    """Put the completed server into `daphne.server`, which daphne's test process imports afresh."""
    import daphne.server
    from txaio import tx

    tx.config.loop = None  # after a fork this is the parent's reactor
    sys.modules.pop("fastws_compat.daphne.server", None)
    _, daphne.server.Server = choose()


def replace_thread_pools() -> None:
    """Replace the thread pools inherited by a fork: their threads exist only in the parent."""
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
    pool._pool.cache_clear()
