"""The setting `FASTWS`: the project's values, changes during tests, and no Django settings at all."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.signals import setting_changed
from django.test import override_settings

from fastws_compat import conf


def test_a_key_that_the_project_does_not_set_has_its_default(settings: Any) -> None:
    settings.FASTWS = {"THREADS": 3}
    assert (conf.get("THREADS"), conf.get("LAYER_TIMEOUT")) == (3, conf.DEFAULTS["LAYER_TIMEOUT"])


def test_overrides_nest() -> None:
    before = conf.get("THREADS")
    with override_settings(FASTWS={"THREADS": 11}):
        assert conf.get("THREADS") == 11
        with override_settings(FASTWS={"THREADS": 12}):
            assert conf.get("THREADS") == 12
        assert conf.get("THREADS") == 11
    assert conf.get("THREADS") == before


def test_another_setting_leaves_the_values_in_place() -> None:
    with override_settings(FASTWS={"THREADS": 11}):
        values = conf.values()
        with override_settings(DEBUG=True):
            assert conf.values() is values


def test_the_settings_fixture_of_pytest_django(settings: Any) -> None:
    settings.FASTWS = {"THREADS": 11}
    assert conf.get("THREADS") == 11
    settings.FASTWS = {"THREADS": 12}
    assert conf.get("THREADS") == 12


def test_a_value_that_is_no_dict_is_ignored(settings: Any) -> None:
    settings.FASTWS = ["THREADS"]
    assert conf.get("THREADS") == conf.DEFAULTS["THREADS"]


def test_changes_are_noticed_by_one_receiver(settings: Any) -> None:
    receivers = len(setting_changed.receivers)
    for threads in (1, 2):
        settings.FASTWS = {"THREADS": threads}
        assert conf.get("THREADS") == threads
    assert len(setting_changed.receivers) == receivers


@pytest.mark.parametrize("configure", ["", "settings.configure(DEBUG=True)"])
def test_without_the_setting(configure: str) -> None:
    check = "assert conf.get('THREADS') == conf.DEFAULTS['THREADS'] and conf.debug() is settings.configured"
    run(f"{configure}\n{check}")


def test_settings_that_are_configured_after_the_first_use() -> None:
    run(
        "assert conf.get('THREADS') == 8\n"
        "settings.configure(FASTWS={'THREADS': 3})\n"
        "assert conf.get('THREADS') == 3"
    )


def run(program: str) -> None:
    prologue = "import os; os.environ.pop('DJANGO_SETTINGS_MODULE', None)\n"
    imports = "from django.conf import settings\nfrom fastws_compat import conf\n"
    subprocess.run([sys.executable, "-c", prologue + imports + program], check=True, timeout=60)
