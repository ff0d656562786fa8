"""daphne, completed: the whole ASGI WebSocket specification, and a shutdown that lets endpoints finish.

`install()` puts it in place through daphne's own extension points, so both `daphne project.asgi:application`
and `manage.py runserver` use it. In a process that does not run daphne it does nothing.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from fastws_compat import conf
from fastws_compat.daphne.choice import Mode, choose, stock_server

_mode: Mode = "absent"
# The result of `choose` without "stock" in the settings, kept because `choose` may log a warning.
_chosen: tuple[Mode, type[Any]] | None = None


def install() -> Mode:
    """Have daphne's command line and `runserver` use the completed server; return the mode that is in place.

    It may be called again, and the last call counts: the settings may not be readable at the first.
    """
    global _mode, _chosen
    if "daphne.server" not in sys.modules:
        return "absent"
    _enable_log()
    if conf.get("DAPHNE") == "stock":
        _mode, server = choose()
    else:
        _chosen = _chosen or choose()
        _mode, server = _chosen
    _set_server_class(server)
    return _mode


def mode() -> Mode:
    """What `install` has put in place: "complete", "portable", "stock", or "absent" for no daphne."""
    return _mode


def install_live() -> None:
    """Have Channels' live server test case run the completed server; a project's own process class stays."""
    live = sys.modules.get("channels.testing.live")
    case = getattr(live, "ChannelsLiveServerTestCase", None)
    if case is not None and case.ProtocolServerProcess is live.DaphneProcess:  # type: ignore[union-attr]
        from fastws_compat.daphne.live import LiveServerProcess

        case.ProtocolServerProcess = LiveServerProcess


def _enable_log() -> None:
    """Enable daphne's logger again if `LOGGING` disabled it without naming it.

    `disable_existing_loggers` affects it because it exists before Django reads `LOGGING`. The completed
    server writes to it too.
    """
    from django.conf import settings

    if not conf.has_settings() or not settings.LOGGING_CONFIG:
        return
    config = settings.LOGGING
    if config.get("disable_existing_loggers", True) and "daphne.server" not in config.get("loggers", {}):
        logging.getLogger("daphne.server").disabled = False


def _set_server_class(server: type[Any]) -> None:
    """Set the class where daphne looks for it, unless the project has set one of its own."""
    import daphne.cli

    replaceable = {stock_server(), _chosen[1] if _chosen else None}
    if daphne.cli.CommandLineInterface.server_class in replaceable:
        daphne.cli.CommandLineInterface.server_class = server
    if "daphne" in _installed_apps():
        from daphne.management.commands.runserver import Command
        from django.core.management.commands import runserver

        from fastws_compat.daphne import reloader

        if Command.server_cls in replaceable:
            Command.server_cls = server
            Command.run = reloader.run if _mode == "complete" else runserver.Command.run


def _installed_apps() -> set[str]:
    from django.apps import apps

    return {app.name for app in apps.get_app_configs()} if apps.apps_ready else set()
