from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_save

from fastws_compat.groups import Group


class ShopConfig(AppConfig):
    name = "tests.servers.shop"

    def ready(self) -> None:
        post_save.connect(tell_of_customer, sender="auth.User")


def tell_of_customer(instance: Any, created: bool, **kwargs: Any) -> None:
    if created:
        Group("shop").send_on_commit({"customer": instance.username})
