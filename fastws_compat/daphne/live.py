"""Channels' `ChannelsLiveServerTestCase` with the completed daphne; its own process runs stock daphne."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import daphne.testing
from asgiref.sync import SyncToAsync

from fastws_compat import conf
from fastws_compat import daphne as completed
from fastws_compat.threads import pool


class LiveServerProcess(daphne.testing.DaphneProcess):  # type: ignore[misc]
    """The process of a live server. Where processes are not forked, it is pickled by its name."""

    def run(self) -> None:
        testing: Any = daphne.testing
        install_reactor = testing._reinstall_reactor

        def install_reactor_and_server() -> None:
            install_reactor()
            install_server()

        testing._reinstall_reactor = install_reactor_and_server
        forget_threads()
        super().run()


def install_server() -> None:
    """Let daphne's test process, which imports `daphne.server` afresh, find the completed server there."""
    import daphne.server
    from txaio import tx

    tx.config.loop = None  # a forked process has its parent's reactor here
    if conf.get("DAPHNE") == "stock":
        return
    sys.modules.pop("fastws_compat.daphne.server", None)
    _, daphne.server.Server = completed.choose()


def forget_threads() -> None:
    """Drop the thread pools of a parent that forked: their threads are not here, so no work would begin."""
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
    pool._pool.cache_clear()
