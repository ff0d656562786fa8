"""A project's user model: a UUID as key, an e-mail address as name, and its own flags."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class Member(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_banned = models.BooleanField(default=False)

    objects: BaseUserManager[Member] = BaseUserManager()
    USERNAME_FIELD = "email"
