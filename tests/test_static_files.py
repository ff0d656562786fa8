"""The JavaScript client as a project gets it: in the wheel, and by `{% static %}`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.template import Context, Template

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "fastws_compat" / "static"
FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def test_there_are_files() -> None:
    assert {"fastws/live.js", "fastws/live.d.ts"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_staticfiles_finds_it(name: str) -> None:
    assert finders.find(name) == str(STATIC / name)


def test_the_wheel_contains_all_of_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fastws_compat", source / "fastws_compat", ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(tmp_path)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        packed = set(wheel.namelist())
    assert {f"fastws_compat/static/{name}" for name in FILES} <= packed


def test_storage_with_hashed_names_takes_it(settings: Any, tmp_path: Path) -> None:
    """The file names no other, so there is nothing in it to rewrite."""
    settings.STATIC_ROOT = tmp_path
    backend = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": backend}}
    settings.DEBUG = False
    call_command("collectstatic", interactive=False, verbosity=0)
    url = Template('{% load static %}{% static "fastws/live.js" %}').render(Context())
    assert re.fullmatch(r"/static/fastws/live\.\w{12}\.js", url)
    collected = tmp_path / url.removeprefix("/static/")
    assert collected.read_text() == (STATIC / "fastws/live.js").read_text()
