"""What Django tells of users, and what it means for their open sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save

from fastws_compat.revalidation import user_key

# A login writes these and ends nothing.
HARMLESS = {"last_login"}
CHANGES = {"post_add", "post_remove", "post_clear"}


def connect() -> None:
    """Listen to what may end a login; called once Django's models are there."""
    user_logged_out.connect(logged_out, dispatch_uid="fastws_compat.logged_out")
    try:
        user_model = get_user_model()
    except ImproperlyConfigured:  # the project has no users
        return
    _connect(post_save, user_saved, user_model)
    _connect(post_delete, user_deleted, user_model)
    for name in ("groups", "user_permissions"):
        if through := _through(user_model, name):
            _connect(m2m_changed, rights_changed, through)
    group = _group()
    if group is not None:
        _connect(m2m_changed, group_changed, group.permissions.through)
        _connect(post_delete, group_changed, group)


def _connect(signal: Any, receiver: Callable[..., None], sender: Any) -> None:
    signal.connect(receiver, sender=sender, dispatch_uid=f"fastws_compat.{receiver.__name__}")


def _through(model: Any, name: str) -> Any:
    return getattr(getattr(model, name, None), "through", None)


def _group() -> Any:
    from django.apps import apps

    return apps.get_model("auth", "Group") if apps.is_installed("django.contrib.auth") else None


def logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Close the sockets of the session; Channels' own `logout` sends no request and is seen later."""
    key = getattr(getattr(request, "session", None), "session_key", None)
    if key and user is not None:
        from fastws_compat import logins, tenants  # with most of the library, which few processes need

        digest, tenant = logins.session_digest(key), tenants.tenant_of(user)
        logins.publish(logins.end(user_key(user), digest, tenant=tenant))


def user_saved(
    instance: Model, created: bool, using: str, update_fields: Iterable[str] | None = None, **kwargs: Any
) -> None:
    if not created and not (update_fields and set(update_fields) <= HARMLESS):
        recheck([user_key(instance)], using)


def user_deleted(instance: Model, using: str, **kwargs: Any) -> None:
    recheck([user_key(instance)], using)


def rights_changed(
    instance: Any, action: str, pk_set: Iterable[Any] | None, using: str, **kwargs: Any
) -> None:
    """A user's own permissions or groups have changed; from the other side they may be many users'."""
    if action not in CHANGES:
        return
    if isinstance(instance, get_user_model()):
        recheck([user_key(instance)], using)
    else:
        recheck(None if pk_set is None else [str(pk) for pk in pk_set], using)


def group_changed(using: str, action: str = "post_clear", **kwargs: Any) -> None:
    if action in CHANGES:
        recheck(None, using)


def recheck(users: Sequence[str] | None, using: str) -> None:
    """Check the users' sockets everywhere, once what has changed can be seen."""
    from fastws_compat import logins, tenants

    tenant = tenants.tenant_in(using)
    transaction.on_commit(lambda: logins.publish(logins.recheck(users, tenant)), using=using, robust=True)
