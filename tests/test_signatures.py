"""Signatures that are made with keys derived once are those that Django makes."""

from __future__ import annotations

from ast import literal_eval

import pytest
from django.conf import settings
from django.contrib.auth import base_user
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core import signing
from django.utils.crypto import salted_hmac

from fastws_compat.logins import judge, lookups, session_digest, signatures
from tests.test_arrivals import arrive, log_in, make_users, scope_of


class OwnDecoding(SessionStore):
    def decode(self, session_data):
        return {"own": session_data}


class OwnUser:
    """A user whose sessions end with something else than the password."""

    password = "x"

    def get_session_auth_hash(self):
        return "own"


class EmptyKey(bytes):
    """No key at all, though Django takes it for one."""

    def __bool__(self):
        return True


@pytest.fixture
def forgetful():
    """Nothing that was found out about this version of Django is remembered."""
    signatures._djangos_methods.cache_clear()
    yield
    signatures._djangos_methods.cache_clear()


@pytest.mark.parametrize("secret", ["text", b"bytes", "ümlaut"])
def test_signature_is_djangos(settings, secret):
    settings.SECRET_KEY = secret
    assert session_digest("key") == salted_hmac("fastws_compat.logins", "key", algorithm="sha256").hexdigest()
    for password in ("", "pbkdf2_sha256$1$salt$hash", "ümlaut"):
        user = User(password=password)
        assert signatures.session_hash(user) == user.get_session_auth_hash()


def test_session_hash_of_another_user_is_left_to_its_class():
    assert signatures.session_hash(OwnUser()) is None
    assert signatures.session_hash(object()) is None


def test_session_hash_is_left_to_a_django_that_makes_it_in_another_way(forgetful, monkeypatch):
    monkeypatch.setattr(signatures, "USER_SALT", "another")
    assert signatures.session_hash(User(password="x")) is None


@pytest.mark.parametrize("data", [{}, {"a": 1}, {"text": "x" * 1000, "ü": [None, 1.5, "ü"]}])
def test_session_is_decoded_as_by_itself(settings, data):
    session = SessionStore()
    old, text = settings.SECRET_KEY, session.encode(data)
    decode = signatures.decoder(session)
    assert [decode(text), decode(text)] == [data, data] == [session.decode(text)] * 2
    settings.SECRET_KEY = "new"
    assert signatures.decoder(session)(text) == {}
    settings.SECRET_KEY_FALLBACKS = ["older", old]
    assert signatures.decoder(session)(text) == data


@pytest.mark.parametrize("empty", ["", b""])
def test_empty_fallback_is_no_key(settings, empty):
    """As in Django; anyone could sign with it."""
    session, data = SessionStore(), {"a": 1}
    settings.SECRET_KEY_FALLBACKS = [empty]
    forged = signing.dumps(data, key=EmptyKey(), salt=session.key_salt)
    assert signatures.decoder(session)(forged) == session.decode(forged) == {}
    text = session.encode(data)
    assert signatures.decoder(session)(text) == data


@pytest.mark.parametrize("text", ["", "corrupt", "a:b:c", ":::", "ümlaut:a:b"])
def test_corrupt_session_is_reported_once(text, caplog):
    assert signatures.decoder(SessionStore())(text) == {}
    assert caplog.messages == ["Session data corrupted"]


SIGNED = "bm90IGpzb24:1xX .AAAA:1xX {0} {0}:1:1xX {0}:!! {0}: {0}:é eyJhIjoxfXg:1xX %%%%:1xX"


@pytest.mark.parametrize("signed", ["", *SIGNED.format("eyJhIjoxfQ").split()])
def test_signed_text_that_is_no_session_is_read_as_by_itself(signed):
    session = SessionStore()
    text = signing.Signer(salt=session.key_salt).sign(signed)
    assert signatures.decoder(session)(text) == session.decode(text) == {}


class Unsalted(SessionStore):
    key_salt = ""


def test_empty_salt_is_none_as_in_django():
    session = Unsalted()
    text = session.encode({"a": 1})
    assert signatures.decoder(session)(text) == session.decode(text) == {"a": 1}
    hmac = signing.base64_hmac("signer", "eyJhIjoxfQ:1xX", settings.SECRET_KEY, "sha256")
    assert signatures.decoder(session)(f"eyJhIjoxfQ:1xX:{hmac}") == {}


def test_text_that_cannot_be_encoded():
    assert signatures.decoder(SessionStore())("e30:1xX:\ud800") == {}


class OwnSerializer:
    def dumps(self, data):
        return repr(data).encode()

    def loads(self, content):
        return literal_eval(content.decode())


def test_serializer_of_the_project(settings):
    settings.SESSION_SERIALIZER = "tests.test_signatures.OwnSerializer"
    session, data = SessionStore(), {"a": (1, b"bytes"), "b": "x" * 1000}
    assert signatures.decoder(session)(session.encode(data)) == data


def test_session_that_decodes_in_its_own_way():
    assert signatures.decoder(OwnDecoding())("text") == {"own": "text"}


@pytest.mark.django_db
def test_batch_derives_no_key_for_each_of_its_members(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("derived a key")

    keys = [log_in(user) for user in make_users(5)]
    expected = [scope["user"].pk for scope in arrive([scope_of(key) for key in keys])]
    monkeypatch.setattr(base_user, "salted_hmac", refuse)
    monkeypatch.setattr(signing, "salted_hmac", refuse)
    users = judge.owners_of([lookups.new_session(key) for key in keys])
    assert [user.pk for user in users] == expected
    sessions = judge.load_sessions(keys)
    assert [sessions[key]["_auth_user_id"] for key in keys] == [str(pk) for pk in expected]
