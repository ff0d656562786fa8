"""Django's signals about users, and their effect on open sockets.

Every process imports this module. What only the receivers need is imported when a signal is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import router, transaction
from django.db.backends.signals import connection_created
from django.db.models import Model
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save

from fastws_compat.logins import deletions
from fastws_compat.logins.judge import user_id_in, user_key
from fastws_compat.threads.orm import reconnect_after_errors

Subject = tuple[Any, Any, Callable[..., None]]

# Fields that a login itself saves.
HARMLESS = {"last_login"}
CHANGES = {"post_add", "post_remove", "post_clear"}


def connect() -> None:
    """Connect the signals of changes that may end a login; called when Django's models are loaded."""
    user_logged_in.connect(logged_in, dispatch_uid="fastws_compat.logged_in")
    user_logged_out.connect(logged_out, dispatch_uid="fastws_compat.logged_out")
    connection_created.connect(reconnect_after_errors, dispatch_uid="fastws_compat.reconnect_after_errors")
    deletions.connect()
    class_prepared.connect(listen_to, dispatch_uid="fastws_compat.listen_to")
    for model in apps.get_models(include_auto_created=True):
        listen_to(model)


def listen_to(sender: Any, **kwargs: Any) -> None:
    """Connect the signals of one model. A signal is sent for the saved class, not for its bases."""
    for base, signal, receiver in _subjects():
        if issubclass(sender, base) or sender in base._meta.get_parent_list():
            signal.connect(receiver, sender=sender, dispatch_uid=f"fastws_compat.{receiver.__name__}")


def _subjects() -> Iterator[Subject]:
    """The models that logins depend on, with the signals of their changes."""
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
    if not through._meta.auto_created:  # a model of the project, whose rows may also be saved one by one
        yield through, post_save, row_changed
        yield through, post_delete, row_changed


def logged_in(sender: Any, request: Any, **kwargs: Any) -> None:
    """Name the session, so that the logout finds its sockets; close those of the session that it replaces.

    Django replaces the session if another user was logged in to it, and sends no signal for that logout.
    """
    session = getattr(request, "session", None)
    if session is not None:
        from fastws_compat.logins import session_names

        session_names.give_name(session)
        before = session_names.name_before(request)
        if before is not None and before != session_names.name_of(session):
            _end_replaced(session_names.session_digest(before), type(session))


def _end_replaced(digest: str, store: Any) -> None:
    """Close the sockets of a session that a new one has replaced, once that is committed."""
    from fastws_compat.logins import registry, remote

    using = router.db_for_write(store.get_model_class()) if hasattr(store, "get_model_class") else None
    transaction.on_commit(
        lambda: remote.publish(registry.end_logins(None, digest, tenant=None)), using=using, robust=True
    )


def logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Close the sockets of the session.

    Channels' `logout` sends no request: the deletion of the session, or the next round, closes its sockets.
    """
    session = getattr(request, "session", None)
    if not getattr(session, "session_key", None):
        return
    from fastws_compat.logins import registry, remote, session_names, tenants

    # Not that of `user`: middleware may have put somebody else in the place of the user of the session.
    owner = None
    with suppress(ValidationError):  # the key of a user of another model, who has no sockets
        owner = user_id_in(session)
    if owner is None:
        return
    # A session without a name may be the session of any socket of the user, so all of them are closed.
    name = session_names.name_of(session)
    digest = name and session_names.session_digest(name)
    tenant = tenants.current_tenant() if user is None else tenants.tenant_of(user)
    remote.publish(registry.end_logins(owner, digest, tenant=tenant))


def user_saved(
    instance: Model, created: bool, using: str, update_fields: Iterable[str] | None = None, **kwargs: Any
) -> None:
    if created or (update_fields and set(update_fields) <= HARMLESS):
        return
    from fastws_compat.logins.fields import may_end_login

    check = recheck if update_fields is None or may_end_login(update_fields) else recheck_own_tests
    check(_keys_of(instance), using)


def user_deleted(instance: Model, using: str, **kwargs: Any) -> None:
    recheck(_keys_of(instance), using)


def _keys_of(instance: Any) -> list[str] | None:
    """The key of the user that an instance is, or is a part of; None if it could be any user."""
    key: Any = get_user_model()._meta.pk
    if isinstance(instance, get_user_model()):
        return [str(key.value_to_string(instance))]
    # An instance of a parent of the user model has the user's key, unless the user model has its own.
    is_part = key.remote_field is not None and isinstance(instance, key.remote_field.model)
    return [user_key(instance)] if is_part else None


def rights_changed(
    instance: Any, action: str, pk_set: Iterable[Any] | None, using: str, **kwargs: Any
) -> None:
    """The permissions or groups of one user have changed, or those of many if changed from the other side."""
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
    """The row may have belonged to another user before."""
    recheck(None, using)


def recheck(users: Sequence[str] | None, using: str) -> None:
    """Check the users' sockets in every process, once the change is committed."""
    from fastws_compat.logins import registry, remote, tenants

    tenant = tenants.tenant_in(using)

    def publish() -> None:
        remote.publish(registry.recheck_users(users, tenant))

    transaction.on_commit(publish, using=using, robust=True)


def recheck_own_tests(users: Sequence[str] | None, using: str) -> None:
    """As `recheck`, but only in this process and for routes with a test that the project wrote."""
    from fastws_compat.logins import registry, tenants

    tenant = tenants.tenant_in(using)
    transaction.on_commit(lambda: registry.recheck_own_tests(users, tenant), using=using, robust=True)
