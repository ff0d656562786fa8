"""A project's own session engine, and a backend that cannot look one of the users up."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def load(self) -> dict[str, Any]:
        return {**super().load(), "own": True}


class Directory(ModelBackend):
    def get_user(self, user_id: Any) -> Any:
        user = super().get_user(user_id)
        if user is not None and user.get_username() == "bob":
            raise LookupError("no directory")
        return user
