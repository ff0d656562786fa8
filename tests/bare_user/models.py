"""A user model with what the admin's documentation asks for, and nothing else: no PermissionsMixin.

$BADGE says what the name of a user is: text, a number or a UUID.
"""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

BADGES: dict[str, models.Field[Any, Any]] = {
    "text": models.CharField(max_length=20, unique=True),
    "number": models.IntegerField(unique=True),
    "uuid": models.UUIDField(unique=True),
}


class Operator(AbstractBaseUser):
    badge = BADGES[os.environ.get("BADGE", "text")]
    is_staff = True
    is_active = True

    objects: BaseUserManager[Operator] = BaseUserManager()
    USERNAME_FIELD = "badge"

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        return True

    def has_module_perms(self, label: str) -> bool:
        return True
