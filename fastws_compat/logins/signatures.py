"""Django's signatures, with keys that are derived once: Django derives them anew for every signature."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.signing import TimestampSigner, b64_encode
from django.utils.encoding import force_bytes

USER_SALT = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"


def signature(salt: str, value: str, secret: str | bytes) -> Any:
    """`salted_hmac` of Django with SHA-256."""
    signed = _keyed(salt, secret).copy()
    signed.update(force_bytes(value))
    return signed


@functools.lru_cache(maxsize=32)
def _keyed(salt: str, secret: str | bytes) -> Any:
    """An HMAC of nothing yet, to be copied."""
    return hmac.new(sha256(salt.encode() + force_bytes(secret)).digest(), digestmod="sha256")


# Sessions


class _Signer(TimestampSigner):
    def signature(self, value: Any, key: Any = None) -> str:
        return b64_encode(signature(str(self.salt) + "signer", value, key or self.key).digest()).decode()


def decoder(session: Any) -> Callable[[str], dict[str, Any]]:
    """The `decode` of a session, for many texts."""
    if type(session).decode is not SessionBase.decode:
        return session.decode  # type: ignore[no-any-return]
    signer, serializer = _Signer(salt=session.key_salt), session.serializer

    def decode(text: str) -> dict[str, Any]:
        try:
            return signer.unsign_object(text, serializer=serializer)  # type: ignore[no-any-return]
        except Exception:
            return session.decode(text)  # type: ignore[no-any-return]  # it logs what is wrong

    return decode


# Users


def session_hash(user: Any) -> str | None:
    """The `get_session_auth_hash()` of a user; None if it is not Django's own."""
    model = type(user)
    methods = getattr(model, "get_session_auth_hash", None), getattr(model, "_get_session_auth_hash", None)
    return _hash_of(user) if methods == _djangos_methods() else None


def _hash_of(user: Any) -> str:
    text: str = signature(USER_SALT, user.password, settings.SECRET_KEY).hexdigest()
    return text


@functools.cache
def _djangos_methods() -> tuple[Any, ...]:
    """The methods with the result of `_hash_of`; none if those of this version of Django have another one."""
    from django.contrib.auth.base_user import AbstractBaseUser  # imports the models

    django: Any = AbstractBaseUser
    probe = SimpleNamespace(password="probe")
    if django._get_session_auth_hash(probe) != _hash_of(probe):
        return ()
    return django.get_session_auth_hash, django._get_session_auth_hash
