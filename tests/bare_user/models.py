"""A user model with what the admin's documentation asks for, and nothing else: no PermissionsMixin."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Operator(AbstractBaseUser):
    badge = models.CharField(max_length=20, unique=True)
    is_staff = True
    is_active = True

    objects: BaseUserManager[Operator] = BaseUserManager()
    USERNAME_FIELD = "badge"

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        return True

    def has_module_perms(self, label: str) -> bool:
        return True
