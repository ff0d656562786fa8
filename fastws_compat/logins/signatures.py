"""Django's signatures, with keys that are derived once: Django derives them anew for every signature."""

from __future__ import annotations

import functools
import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from json import JSONDecoder
from types import SimpleNamespace
from typing import Any
from zlib import decompress

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.signing import BadSignature, JSONSerializer
from django.utils.encoding import force_bytes

USER_SALT = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"


def signature(salt: str, value: str, secret: str | bytes) -> Any:
    """`salted_hmac` of Django with SHA-256."""
    signed = _keyed(salt, secret).copy()
    signed.update(value.encode() if isinstance(value, str) else force_bytes(value))
    return signed


@functools.lru_cache(maxsize=32)
def _keyed(salt: str, secret: str | bytes) -> Any:
    """An HMAC of nothing yet, to be copied; if there is one, the object of OpenSSL that Python wraps."""
    made = hmac.new(sha256(salt.encode() + force_bytes(secret)).digest(), digestmod="sha256")
    return getattr(made, "_hmac", None) or made


# Sessions

_DECODER = JSONDecoder()
_FROM_URLS, _TO_URLS = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


def decoder(session: Any) -> Callable[[str], dict[str, Any]]:
    """The `decode` of a session, for many texts.

    It reads what `django.core.signing.dumps` makes: the data, a time and a signature, separated by colons. It
    leaves every text that has no valid signature, or that it cannot read, to the session's own `decode`.
    """
    if type(session).decode is not SessionBase.decode or not session.key_salt:
        return session.decode  # type: ignore[no-any-return]
    salt = session.key_salt + "signer"
    # An empty fallback stands for no key, as in Django: anyone could sign with it.
    keys = [settings.SECRET_KEY, *filter(None, settings.SECRET_KEY_FALLBACKS)]
    loads = _loads if session.serializer is JSONSerializer else session.serializer().loads

    def decode(text: str) -> dict[str, Any]:
        try:
            return loads(_content_of(text, salt, keys))  # type: ignore[no-any-return]
        except Exception:
            return session.decode(text)  # type: ignore[no-any-return]  # it logs what is wrong

    return decode


def _content_of(text: str, salt: str, keys: Sequence[str | bytes]) -> bytes:
    """What a text contains; raises BadSignature if it was not signed with one of the keys and a time."""
    signed, _, sent = text.rpartition(":")
    for key in keys:
        if compare_digest(_signature_of(signed, salt, key), sent.encode()):
            content, _, time = signed.rpartition(":")
            if time.isascii() and time.isalnum():
                return _from_base64(content.encode())
    raise BadSignature


def _signature_of(signed: str, salt: str, key: str | bytes) -> bytes:
    """The signature as it is written: URL-safe base64 without the padding."""
    digest = signature(salt, signed, key).digest()
    return b2a_base64(digest, newline=False).translate(_TO_URLS, b"=")


def _from_base64(written: bytes) -> bytes:
    """What was written as URL-safe base64; a full stop in front says that it was compressed."""
    is_compressed = written[:1] == b"."
    encoded = written[is_compressed:].translate(_FROM_URLS)
    content = a2b_base64(encoded + b"=" * (-len(encoded) % 4))
    return decompress(content) if is_compressed else content


def _loads(content: bytes) -> Any:
    """As `JSONSerializer.loads`; raises ValueError for text with surrounding white space too."""
    text = content.decode("latin-1")
    data, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError
    return data


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
