"""What Django tells of users, and what it means for their open sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.backends.signals import connection_created
from django.db.models import Model
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save

from fastws_compat.logins.judge import user_key
from fastws_compat.threads.orm import reconnect_after_errors

Subject = tuple[Any, Any, Callable[..., None]]

# A login writes these and ends nothing.
HARMLESS = {"last_login"}
CHANGES = {"post_add", "post_remove", "post_clear"}


def connect() -> None:
    """Listen to what may end a login; called once Django's models are there."""
    user_logged_in.connect(logged_in, dispatch_uid="fastws_compat.logged_in")
    user_logged_out.connect(logged_out, dispatch_uid="fastws_compat.logged_out")
    connection_created.connect(reconnect_after_errors, dispatch_uid="fastws_compat.reconnect_after_errors")
    class_prepared.connect(listen_to, dispatch_uid="fastws_compat.listen_to")
    for model in apps.get_models(include_auto_created=True):
        listen_to(model)


def listen_to(sender: Any, **kwargs: Any) -> None:
    """Connect what concerns a model; a signal knows the class that was saved, and not its bases."""
    for base, signal, receiver in _subjects():
        if issubclass(sender, base) or sender in base._meta.get_parent_list():
            signal.connect(receiver, sender=sender, dispatch_uid=f"fastws_compat.{receiver.__name__}")


def _subjects() -> Iterator[Subject]:
    """The models on which logins depend, with the signals that tell of a change."""
    try:
        user_model: Any = get_user_model()
    except ImproperlyConfigured:  # the project has no users
        return
    yield user_model, post_save, user_saved
    yield user_model, post_delete, user_deleted
    for name in ("groups", "user_permissions"):
        if through := getattr(getattr(user_model, name, None), "through", None):
            yield from _rows_between(through, rights_changed)
    if apps.is_installed("django.contrib.auth"):
        group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
        yield from _rows_between(group.permissions.through, group_changed)
        for model in (group, permission):
            yield model, post_save, group_changed
            yield model, post_delete, group_changed


def _rows_between(through: Any, receiver: Callable[..., None]) -> Iterator[Subject]:
    yield through, m2m_changed, receiver
    if not through._meta.auto_created:  # a model of the project, whose rows are saved by themselves too
        yield through, post_save, row_changed
        yield through, post_delete, row_changed


def logged_in(sender: Any, request: Any, **kwargs: Any) -> None:
    """Give the session a name by which its sockets are found at the logout, if it needs one."""
    session = getattr(request, "session", None)
    if session is not None:
        from fastws_compat.logins import session_names

        session_names.give_name(session)


def logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Close the sockets of the session; Channels' own `logout` sends no request and is seen later."""
    session = getattr(request, "session", None)
    if user is None or not getattr(session, "session_key", None):
        return
    from fastws_compat.logins import registry as logins  # with most of the library, which few need
    from fastws_compat.logins import session_names, tenants

    # A session without a name could be that of any socket of the user: then all of them are closed.
    name = session_names.name_of(session)
    digest = name and logins.session_digest(name)
    logins.publish(logins.end(user_key(user), digest, tenant=tenants.tenant_of(user)))


def user_saved(
    instance: Model, created: bool, using: str, update_fields: Iterable[str] | None = None, **kwargs: Any
) -> None:
    if created or (update_fields and set(update_fields) <= HARMLESS):
        return
    from fastws_compat.logins.fields import may_end_login

    everywhere = update_fields is None or may_end_login(update_fields)
    (recheck if everywhere else recheck_own_tests)(_keys_of(instance), using)


def user_deleted(instance: Model, using: str, **kwargs: Any) -> None:
    recheck(_keys_of(instance), using)


def _keys_of(instance: Any) -> list[str] | None:
    """The key of the user that an instance is, or a part of; None if that could be anybody."""
    key: Any = get_user_model()._meta.pk
    if isinstance(instance, get_user_model()):
        return [str(key.value_to_string(instance))]
    # Of a parent of the user model: a user has its key, unless the model has a key of its own.
    is_part = key.remote_field is not None and isinstance(instance, key.remote_field.model)
    return [user_key(instance)] if is_part else None


def rights_changed(
    instance: Any, action: str, pk_set: Iterable[Any] | None, using: str, **kwargs: Any
) -> None:
    """A user's own permissions or groups have changed; from the other side they may be many users'."""
    if action not in CHANGES:
        return
    if isinstance(instance, get_user_model()):
        recheck(_keys_of(instance), using)
    else:
        recheck(None if pk_set is None else [str(pk) for pk in pk_set], using)


def group_changed(using: str, action: str = "post_clear", created: bool = False, **kwargs: Any) -> None:
    if action in CHANGES and not created:
        recheck(None, using)


def row_changed(using: str, **kwargs: Any) -> None:
    """A row between two models may have belonged to another user before."""
    recheck(None, using)


def recheck(users: Sequence[str] | None, using: str) -> None:
    """Check the users' sockets everywhere, once what has changed can be seen."""
    from fastws_compat.logins import registry as logins
    from fastws_compat.logins import tenants

    tenant = tenants.tenant_in(using)
    transaction.on_commit(lambda: logins.publish(logins.recheck(users, tenant)), using=using, robust=True)


def recheck_own_tests(users: Sequence[str] | None, using: str) -> None:
    """As `recheck`, in this process and only where code of the project tests the user."""
    from fastws_compat.logins import registry as logins
    from fastws_compat.logins import tenants

    tenant = tenants.tenant_in(using)
    transaction.on_commit(lambda: logins.recheck_own_tests(users, tenant), using=using, robust=True)
