"""The demo's two users and its rooms."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.hashers import get_hasher, identify_hasher
from django.contrib.auth.models import User
from django.utils.crypto import salted_hmac

from .chat.models import Room

ROOMS = [
    ("general", "General", "Whatever is on your mind"),
    ("releases", "Releases", "What goes out, and when"),
    ("coffee", "Coffee", "Not about work"),
]


@dataclass(frozen=True, slots=True)
class Account:
    """A demo user and its password."""

    username: str
    password: str


def make_rooms() -> None:
    for slug, name, topic in ROOMS:
        Room.objects.get_or_create(slug=slug, defaults={"name": name, "topic": topic})


def make_accounts() -> list[Account]:
    """Create or repair the member and the staff user."""
    return [_account("member", is_staff=False), _account("staff", is_staff=True)]


def _account(username: str, *, is_staff: bool) -> Account:
    rights = {"is_staff": is_staff, "is_superuser": is_staff, "is_active": True}
    user, _ = User.objects.update_or_create(username=username, defaults=rights)
    hashed = user.password and user.has_usable_password()
    if not (hashed and user.check_password(_password(user))):
        _renew_password(user)
    return Account(username, _password(user))


def _password(user: User) -> str:
    """Derive the password from the random salt of the stored hash: never stored in clear, yet stable.

    A new password for each run would end all sessions, so browsers would be logged out by a restart.
    """
    return _derive(identify_hasher(user.password).decode(user.password)["salt"])


def _derive(salt: str) -> str:
    return salted_hmac("wsproject.accounts", salt, algorithm="sha256").hexdigest()[:12]


def _renew_password(user: User) -> None:
    hasher = get_hasher()
    salt = hasher.salt()
    user.password = hasher.encode(_derive(salt), salt)
    user.save(update_fields=["password"])
