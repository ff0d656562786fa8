"""Sessions that are deleted from the database; their sockets close as at a logout."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.signals import request_started
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.signals import post_delete

from fastws_compat.connections import registry as loops

LISTEN, DELETED = "fastws_compat.listen_to_sessions", "fastws_compat.session_deleted"


def connect() -> None:
    """Listen from the first request or socket on.

    A process without them, such as that of `clearsessions`, does not listen: Django would read every row that
    it deletes.
    """
    request_started.connect(listen, dispatch_uid=LISTEN)
    if listen not in loops.on_begin:
        loops.on_begin.append(listen)


def listen(**kwargs: Any) -> None:
    """Connect the signal of deletions, if sessions are in the database."""
    request_started.disconnect(dispatch_uid=LISTEN)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    if hasattr(store, "get_model_class"):
        from django.contrib.sessions.base_session import AbstractBaseSession

        for model in apps.get_models():
            if issubclass(model, AbstractBaseSession):
                post_delete.connect(deleted, sender=model, dispatch_uid=DELETED)


def deleted(instance: Any, using: str, origin: Any = None, **kwargs: Any) -> None:
    """Once it is committed, close the sockets of the session; a bulk deletion has all sockets checked."""
    if not _may_have_login(instance):
        return
    if not isinstance(origin, QuerySet):
        transaction.on_commit(partial(_end, instance.session_key), using=using, robust=True)
        return
    waiting = transaction.get_connection(using).run_on_commit
    if not waiting or waiting[-1][1] is not _recheck:  # one check serves all rows
        transaction.on_commit(_recheck, using=using, robust=True)


def _may_have_login(session: Any) -> bool:
    # A deferred field can no longer be read.
    return bool(session.get_deferred_fields()) or SESSION_KEY in session.get_decoded()


def _end(key: str) -> None:
    from fastws_compat.logins import registry, remote, session_names

    remote.publish(registry.end_logins(None, session_names.session_digest(key), tenant=None))


def _recheck() -> None:
    from fastws_compat.logins import registry, remote

    remote.publish(registry.recheck_users(None))
