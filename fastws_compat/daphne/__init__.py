"""daphne, completed: the whole ASGI WebSocket specification, and a shutdown that lets endpoints end.

`install()` puts it in place through daphne's own extension points, so `daphne project.asgi:application` and
`manage.py runserver` both get it. In a process that is not daphne it does nothing.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

from fastws_compat import conf
from fastws_compat.logger import logger

Mode = Literal["absent", "stock", "portable", "complete"]

# Tested with these; the protocol leans on names that daphne, autobahn and Twisted do not promise.
SINCE, BEFORE = (4, 2, 2), (4, 3)

NEEDED = {
    "daphne.server:Server": (
        "run create_application kill_all_applications listen_success protocol_connected"
        " protocol_disconnected application_checker timeout_checker log_action stop"
    ),
    "daphne.http_protocol:WebRequest": "process",
    "daphne.http_protocol:HTTPFactory": "buildProtocol",
    "daphne.ws_protocol:WebSocketFactory": "protocol buildProtocol setProtocolOptions",
    "daphne.ws_protocol:WebSocketProtocol": (
        "duration processData consumeData _dataReceived onMessageBegin onMessageFrameBegin"
        " onMessageFrameData onMessageFrameEnd onMessageEnd _invalid_payload"
        " sendData sendCloseFrame sendPing sendPong"
        " onCloseFrame onOpenHandshakeTimeout failHandshake dropConnection _fail_connection"
        " _sendAutoPing _cancelAutoPingTimeoutCall STATE_OPEN STATE_CONNECTING STATE_CLOSED"
    ),
}

_chosen: tuple[Mode, type[Any]] | None = None
_mode: Mode = "absent"


def install() -> Mode:
    """Make daphne's command line and `runserver` use the completed server; say what is in place now.

    The last call counts: the first may come before the settings are there to be read.
    """
    global _mode, _chosen
    if "daphne.server" not in sys.modules:
        return "absent"
    _switch_on_log()
    if conf.get("DAPHNE") == "stock":
        _mode, server = "stock", stock()
    else:
        _chosen = _chosen or choose()
        _mode, server = _chosen
    put_in_place(server)
    return _mode


def _switch_on_log() -> None:
    """Undo what `LOGGING` does to daphne's logger, which existed before it was read, unless it names it.

    The completed server logs there too.
    """
    from django.conf import settings

    if not (settings.configured or conf.has_settings_module()) or not settings.LOGGING_CONFIG:
        return
    config = settings.LOGGING
    if config.get("disable_existing_loggers", True) and "daphne.server" not in config.get("loggers", {}):
        logging.getLogger("daphne.server").disabled = False


def mode() -> Mode:
    """What `install` has put in place: "complete", "portable", "stock", or "absent" for no daphne."""
    return _mode


def choose() -> tuple[Mode, type[Any]]:
    if lacks := missing():
        from fastws_compat.daphne.portable import server_class

        logger.warning(
            "This daphne is not completed (%s): close codes 1001 to 1014 become 4001 to 4014, "
            "and what else it lacks of ASGI stays as it is.",
            lacks,
        )
        return "portable", server_class()
    from fastws_compat.daphne.server import Server

    return "complete", Server


def missing() -> str:
    """Why the completed server cannot run here, in a few words; empty if it can."""
    import daphne

    if not SINCE <= version(daphne.__version__) < BEFORE:
        return f"version {daphne.__version__}"
    for place, names in NEEDED.items():
        module, _, owner = place.partition(":")
        found = getattr(__import__(module, fromlist=[owner]), owner, None)
        for name in names.split():
            if not hasattr(found, name):
                return f"no {owner}.{name}"
    return ""


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "4.2.3rc1" is (4, 2)."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def stock() -> type[Any]:
    import daphne.server

    server: type[Any] = daphne.server.Server
    return server


def install_live() -> None:
    """Have Channels' live server test case run the completed server; a project's own process class stays."""
    live = sys.modules.get("channels.testing.live")
    case = getattr(live, "ChannelsLiveServerTestCase", None)
    if case is not None and case.ProtocolServerProcess is live.DaphneProcess:  # type: ignore[union-attr]
        from fastws_compat.daphne.live import LiveServerProcess

        case.ProtocolServerProcess = LiveServerProcess


def put_in_place(server: type[Any]) -> None:
    """Set the class where daphne looks for it; a project's own choice stays."""
    import daphne.cli

    ours = {stock(), _chosen[1] if _chosen else None}
    if daphne.cli.CommandLineInterface.server_class in ours:
        daphne.cli.CommandLineInterface.server_class = server
    if "daphne" in installed_apps():
        from daphne.management.commands.runserver import Command

        from fastws_compat.daphne import reloader

        if Command.server_cls in ours:
            Command.server_cls = server
            Command.run = reloader.run


def installed_apps() -> set[str]:
    from django.apps import apps

    return {app.name for app in apps.get_app_configs()} if apps.apps_ready else set()
