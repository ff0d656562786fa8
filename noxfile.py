"""What the workflows run, for anybody's machine: `nox -l` lists the sessions, `nox -s NAME` runs one."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["tests", "lint", "docs", "package"]
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
DJANGOS = ["5.2", "6.0", "6.1"]
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
# The optional dependencies at run time. The FastAPI of the tests needs a newer OpenTelemetry than we do, and
# channels_redis 4.2 warns of its own calls to Channels, which fails the tests.
EXTRAS = ["uvloop", "cli", "prometheus", "sentry"]
NEWEST = ["django", "channels", "daphne", "asgiref", "autobahn", "twisted", "pydantic"]
QUICK = ["-m", "not servers and not browser", "-n", "auto", "--dist", "loadfile"]


def oldest_releases(*extras: str) -> list[str]:
    """The oldest releases that pyproject.toml allows: "channels>=4.2" gives "channels==4.2.*"."""
    optional = [requirement for extra in extras for requirement in PROJECT["optional-dependencies"][extra]]
    pins = [requirement.replace(">=", "==") for requirement in [*PROJECT["dependencies"], *optional]]
    return [pin if pin.count(".") == 2 or pin.endswith("b0") else f"{pin}.*" for pin in pins]


def pytest(session: nox.Session, *quick: str) -> None:
    session.run("python", "-m", "pytest", "-q", *(session.posargs or quick))


@nox.session(python=PYTHONS)
@nox.parametrize("django", DJANGOS)
def tests(session: nox.Session, django: str) -> None:
    """The tests without servers, for each Python and each Django that supports it."""
    if django >= "6" and str(session.python) < "3.12":
        session.skip(f"Django {django} needs Python 3.12")
    session.install("-e", ".[test]", f"django=={django}.*")
    pytest(session, *QUICK)


@nox.session(python=PYTHONS)
def oldest(session: nox.Session) -> None:
    """All tests with the oldest dependencies that are supported."""
    session.install("-e", ".[test]", *oldest_releases(*EXTRAS))
    pytest(session)


@nox.session(python=PYTHONS)
def oldest_opentelemetry(session: nox.Session) -> None:
    """The tests of OpenTelemetry with its oldest release, without FastAPI, which needs a newer one."""
    tools = ["pytest-django", "pytest-timeout", "hypothesis", "opentelemetry-sdk==1.38.*"]
    session.install("-e", ".", *oldest_releases("opentelemetry"), *tools)
    session.run("python", "-m", "pytest", "-q", "tests/test_opentelemetry.py")


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """All tests with the newest release of every dependency."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[test]", *NEWEST)
    pytest(session)


@nox.session(python=PYTHONS)
def prereleases(session: nox.Session) -> None:
    """All tests with alphas, betas and release candidates of the dependencies."""
    session.install("-e", ".[test]")
    session.install("--upgrade", "--pre", "--upgrade-strategy", "only-if-needed", *NEWEST)
    session.run("python", "-m", "pip", "freeze")
    pytest(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, mypy and pyright."""
    session.install("-e", ".[test,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing")
    session.run("pyright", "tests/typing")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site in build/site, strictly, and what a reader needs of it."""
    session.install("-e", ".[test,docs]")
    session.run("sphinx-build", "-qW", "--keep-going", "-c", "docs", ".", "build/site")
    session.run("python", "-m", "pytest", "-q", "tests/site")


@nox.session
def package(session: nox.Session) -> None:
    """The wheel and the sdist in dist/, checked, and the wheel serving a socket in an empty environment."""
    session.install(".[release]")
    session.run("bash", ".ci/package", "python", "dist", external=True)
