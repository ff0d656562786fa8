"""The settings dict `FASTWS`; changes by Django's `override_settings` take effect at once."""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, Any] = {
    # Threads that run sync dependencies, besides the process's one thread-sensitive thread.
    "THREADS": 8,
    # "complete" or "stock": whether to complete the installed daphne or leave it as it is.
    "DAPHNE": "complete",
    # Whether objects that survive a full garbage collection stay out of the next ones (daphne and uvicorn).
    "GC_FREEZE": True,
    # "auto" or "asyncio": whether completed daphne runs on uvloop if that is installed.
    "LOOP": "auto",
    # Whether to read the root path from the header `Daphne-Root-Path`, as stock daphne does.
    "DAPHNE_ROOT_PATH_HEADER": False,
    # Seconds that endpoints have to finish when the server stops.
    "SHUTDOWN_GRACE": 5,
    # Allowed origins besides the site's own and CSRF_TRUSTED_ORIGINS, in the same form; "*" allows all.
    "ALLOWED_ORIGINS": (),
    # Whether to refuse handshakes without an Origin header even if they carry no session cookie.
    "ORIGIN_REQUIRED": False,
    # Seconds within which an endpoint must answer the handshake; less than daphne's own 5.
    "HANDSHAKE_TIMEOUT": 4,
    # Maximum number of handshakes that the process works on at a time; the others wait in order of arrival.
    "MAX_HANDSHAKES": "auto",
    # Seconds that an endpoint which does not receive may run on after its client left; None for no limit.
    "DISCONNECT_GRACE": 5,
    # Seconds that the cleanup of one dependency may take before it is cancelled.
    "CLEANUP_TIMEOUT": 10,
    # Maximum message size in bytes, unless the route or its application sets another.
    "MAX_MESSAGE_SIZE": 1024 * 1024,
    # Whether the completed daphne compresses messages (permessage-deflate); a dict of options says how.
    "DEFLATE": False,
    # Maximum number of open connections per process: in total, per user, per address.
    "MAX_CONNECTIONS": None,
    "MAX_CONNECTIONS_PER_USER": None,
    "MAX_CONNECTIONS_PER_ADDRESS": None,
    # User fields whose changes are sent to other processes at once; None lets the library choose them.
    "LOGIN_FIELDS": None,
    # Dotted name of a callable that returns the current tenant, for tenants that share a database.
    "TENANT": None,
    # Seconds between checks that the logins of open sockets are still valid; 0 for no checks.
    "REVALIDATE_SECONDS": 60,
    # Who may see the documentation page: None (everybody with DEBUG, else staff), "staff", "public", or the
    # dotted name of a function of the request.
    "DOCS_ACCESS": None,
    # Seconds after which a call to a channel layer times out.
    "LAYER_TIMEOUT": 5,
    # What happens when a socket reads more slowly than its groups send: "close" (1013) or "drop_oldest".
    "SLOW_CONSUMER": "close",
    # Maximum number of messages queued for such a socket before that happens.
    "SLOW_CONSUMER_QUEUE": 1000,
    # What groups keep, by pattern: {"room.*": {"history": True, "presence": True, "state": True}}.
    "GROUPS": {},
    # Where they keep it: "auto" (with the channel layer), "memory", or Redis hosts by alias of the layer.
    "STORE": "auto",
    # Whether a restart of Redis loses nothing (appendfsync always).
    "STORE_DURABLE": False,
    # Seconds between two checks that a process has every message in the store.
    "CHECK_SECONDS": 5,
    # Seconds without a heartbeat after which the sockets of a process are no longer present.
    "PRESENCE_TTL": 20,
    # Seconds between two heartbeats that the server sends to clients of `live.js`.
    "BEAT_SECONDS": 25,
    # Maximum size in bytes of the kept messages that a process holds for clients that reconnect.
    "RING_BYTES": 32 * 1024 * 1024,
    # Seconds over which clients spread their reconnects after the server has closed them.
    "RECONNECT_SPREAD": 5,
    # Seconds to wait for the answers of other processes, and the most rows of a list of sockets.
    "OPERATIONS_TIMEOUT": 1.0,
    "OPERATIONS_ROWS": 100,
    # "mask", "full" or "none": what users who may not see personal data see of it.
    "OPERATIONS_ADDRESS": "mask",
    # Whether the messages of one socket may be watched; None allows it while DEBUG is on.
    "OPERATIONS_TAP": None,
    # Maximum number of routes that metrics and lists of sockets tell apart; the others count as one.
    "METRICS_ROUTES": 200,
    # Whether the size of each message is measured too, for a histogram.
    "METRICS_SIZES": False,
    # The token for the metrics of all processes.
    "METRICS_TOKEN": None,
    # Whether to log one line for each connection that has ended.
    "ACCESS_LOG": False,
    # The share of messages that OpenTelemetry gets a span for: True for all, False for none, or a ratio.
    "TRACE_MESSAGES": False,
    # Whether spans have the names of groups, and the primary keys of users.
    "TRACE_GROUP_NAMES": False,
    "TRACE_USER": False,
    # The path below which the probes for load balancers are served, for example "/-/".
    "HEALTH": None,
    # Seconds between SIGTERM and the end of listening, and seconds over which open sockets are then closed.
    "DRAIN_DELAY": 0,
    "DRAIN_SPREAD": 0,
}


# What the project has set; None until it is read, and again after `setting_changed` reports a new value. What
# runs for every connection reads it here, and calls `values` only if it is None.
project: dict[str, Any] | None = None
_NOTHING: dict[str, Any] = {}


def get(name: str) -> Any:
    """The value of `FASTWS[name]`, or the library's default; works without Django settings too."""
    own = values() if project is None else project
    return own[name] if name in own else DEFAULTS[name]


def values() -> dict[str, Any]:
    """What the project has set."""
    return _read() if project is None else project


def debug() -> bool:
    """Whether Django's `DEBUG` is on; False without Django settings."""
    from django.conf import settings

    return bool(has_settings() and settings.DEBUG)


def has_settings() -> bool:
    """Whether Django's settings are configured or the environment names their module."""
    import os

    from django.conf import ENVIRONMENT_VARIABLE, settings

    return bool(settings.configured or os.environ.get(ENVIRONMENT_VARIABLE))


def _read() -> dict[str, Any]:
    """Read the setting and keep it until it changes; the absence of Django settings is not kept."""
    global project
    if not has_settings():
        return _NOTHING
    from django.conf import settings
    from django.core.signals import setting_changed

    own = getattr(settings, "FASTWS", {})
    setting_changed.connect(_forget, dispatch_uid="fastws_compat.conf")
    project = own if isinstance(own, dict) else _NOTHING  # a system check reports a value that is not a dict
    return project


def _forget(*, setting: str, **kwargs: Any) -> None:
    """Read `FASTWS` again when it is used next: `override_settings` has changed it."""
    global project
    if setting == "FASTWS":
        project = None
