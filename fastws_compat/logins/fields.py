"""The fields of a user that a login depends on, as far as the library can know them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.contrib.auth.backends import AllowAllUsersModelBackend, BaseBackend, ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import PermissionsMixin

from fastws_compat import conf

# The fields and methods that decide in Django's own user models and backends.
DJANGO_FIELDS = {"password", "is_active", "is_staff", "is_superuser"}
USER_METHODS = ("get_session_auth_hash", "get_session_auth_fallback_hash", "has_perm", "has_perms")
BACKEND_METHODS = (
    "get_user",
    "user_can_authenticate",
    "has_perm",
    "get_user_permissions",
    "get_group_permissions",
    "get_all_permissions",
    "_get_permissions",
    "_get_user_permissions",
    "_get_group_permissions",
)


def may_end_login(fields: Iterable[str]) -> bool:
    """Whether a login can end because these fields of its user were saved."""
    declared = conf.get("LOGIN_FIELDS")
    if declared is not None:
        return not set(declared).isdisjoint(fields)
    return not DJANGO_FIELDS.isdisjoint(fields) or not is_djangos_own()


def is_djangos_own() -> bool:
    """Whether only Django's own code decides; code of the project may read any field."""
    model: Any = get_user_model()
    if any(isinstance(inspect.getattr_static(model, name, None), property) for name in DJANGO_FIELDS):
        return False
    backends = [type(load_backend(path)) for path in settings.AUTHENTICATION_BACKENDS]
    return _does_not_override(model, USER_METHODS, AbstractBaseUser, PermissionsMixin) and all(
        _does_not_override(backend, BACKEND_METHODS, ModelBackend, BaseBackend, AllowAllUsersModelBackend)
        for backend in backends
    )


def _does_not_override(cls: type, names: Iterable[str], *bases: type) -> bool:
    return all(
        getattr(cls, name, None) in [None, *(getattr(base, name, None) for base in bases)] for name in names
    )
