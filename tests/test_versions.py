"""The supported versions are the same wherever they are written."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import Any

import pytest

from tests.test_docs import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPATIBILITY = (ROOT / "docs" / "about" / "compatibility.md").read_text()
WORKFLOWS = ROOT / ".github" / "workflows"
# The oldest release of each dependency: "django>=5.2" is {"django": "5.2"}.
OLDEST = dict(requirement.split(">=") for requirement in PROJECT["dependencies"])


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def classified(prefix: str) -> list[str]:
    """The versions of a classifier, such as "Framework :: Django"."""
    found = [re.fullmatch(rf"{prefix} :: (\d+\.\d+)", each) for each in PROJECT["classifiers"]]
    return [match[1] for match in found if match]


def nox_list(name: str) -> list[str]:
    """A list of the noxfile, which cannot be imported without nox."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    lists = [node for node in tree.body if isinstance(node, ast.Assign)]
    [value] = [node.value for node in lists if ast.unparse(node.targets[0]) == name]
    return list(ast.literal_eval(value))


PYTHONS = classified("Programming Language :: Python")
DJANGOS = classified("Framework :: Django")


def test_nox_runs_what_the_classifiers_name() -> None:
    assert nox_list("PYTHONS") == PYTHONS
    assert nox_list("DJANGOS") == DJANGOS


def test_the_oldest_versions_are_those_that_pip_requires() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert OLDEST["django"] == DJANGOS[0]


def test_nox_upgrades_every_dependency() -> None:
    assert set(OLDEST) <= set(nox_list("NEWEST"))


def test_the_workflow_runs_every_python() -> None:
    matrix = re.search(r"python: \[(.*)\]", (WORKFLOWS / "ci.yml").read_text())
    assert matrix is not None
    assert re.findall(r"[\d.]+", matrix[1]) == PYTHONS


@pytest.mark.parametrize("name", ["ci.yml", "nightly.yml"])
def test_a_workflow_uses_supported_pythons_and_sessions_that_exist(name: str) -> None:
    text = (WORKFLOWS / name).read_text()
    assert set(re.findall(r'python(?:-version)?: "([\d.]+)"', text)) <= set(PYTHONS)
    sessions = set(re.findall(r"session: (\w+)", text)) | set(re.findall(r"nox .*-s \"?(\w+)", text))
    assert sessions
    functions = re.findall(r"@nox.session.*\n(?:@.*\n)?def (\w+)", (ROOT / "noxfile.py").read_text())
    assert sessions <= set(functions)


def test_the_nightly_job_runs_the_oldest_python_and_the_newest() -> None:
    text = (WORKFLOWS / "nightly.yml").read_text()
    runs = re.findall(r'session: (\w+), python: "([\d.]+)"', text)
    assert ("oldest", PYTHONS[0]) in runs
    assert {("newest", PYTHONS[-1]), ("prereleases", PYTHONS[-1])} <= set(runs)


def test_the_gate_looks_for_every_newer_python() -> None:
    script = (ROOT / ".ci" / "newest_python").read_text()
    assert re.findall(r"python(3\.\d+)(?=[ ;])", script) == PYTHONS[:0:-1]


def test_the_readme_names_the_oldest_versions() -> None:
    last = (ROOT / "README.md").read_text().splitlines()[-1]
    named = {name.lower(): version for name, version in re.findall(r"(\w+) ([\d.]+)\+", last)}
    assert named == {"python": PYTHONS[0], **OLDEST}


def test_the_policy_names_the_same_versions() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (.+) \|$", COMPATIBILITY, re.MULTILINE))
    assert rows["Python"] == f"{PYTHONS[0]} to {PYTHONS[-1]}"
    assert rows["Django"] == f"{DJANGOS[0]} to the newest release"
    for name in ("Channels", "daphne", "pydantic"):
        assert rows[name] == f"{OLDEST[name.lower()]} or newer"
    [uvicorn] = [each for each in PROJECT["optional-dependencies"]["test"] if each.startswith("uvicorn")]
    assert rows["uvicorn"].startswith(f"{uvicorn.partition('>=')[2]} or newer")


def test_the_policy_names_the_versions_that_the_tests_compare_with() -> None:
    extras = " ".join(PROJECT["optional-dependencies"]["test"])
    pins = dict(re.findall(r"(fastapi|starlette)==([\d.]+)\.\*", extras))
    assert f"FastAPI {pins['fastapi']} and Starlette {pins['starlette']}" in COMPATIBILITY


def test_the_requirements_of_the_demo_are_those_of_the_package() -> None:
    lines = (ROOT / "requirements.txt").read_text().split()
    assert set(PROJECT["dependencies"]) <= set(lines)


def test_versions_are_in_order() -> None:
    assert sorted(PYTHONS, key=number) == PYTHONS
    assert sorted(DJANGOS, key=number) == DJANGOS
