"""Which server class a process runs: the completed one, or what the installed daphne allows."""

from __future__ import annotations

from typing import Any, Literal

from fastws_compat import conf
from fastws_compat.daphne.versions import obstacle
from fastws_compat.logger import logger

Mode = Literal["absent", "stock", "portable", "complete"]


def choose() -> tuple[Mode, type[Any]]:
    """The best mode that works here, with its server class."""
    if conf.get("DAPHNE") == "stock":
        return "stock", stock_server()
    if problem := obstacle():
        from fastws_compat.daphne.portable import server_class

        logger.warning(
            "daphne is not completed (%s): close codes 1001 to 1014 are sent as private ones, such as 4008, "
            "and daphne's other gaps in the ASGI specification remain.",
            problem,
        )
        return "portable", server_class()
    from fastws_compat.daphne.server import Server

    return "complete", Server


def stock_server() -> type[Any]:
    """daphne's own server class."""
    import daphne.server

    server: type[Any] = daphne.server.Server
    return server
