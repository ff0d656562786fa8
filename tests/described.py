"""The sites that the tests of generated documents describe: the demo, the guide's examples, and the zoo."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from fastws_compat import FastAPI
from fastws_compat.schema import catalogue
from fastws_compat.schema.description import Site
from tests import documented, zoo

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "typed-messages.md"
BLOCK = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sites() -> dict[str, Site]:
    found = {"demo": Site(catalogue.project()), "zoo": Site(zoo.app)}
    for number, app in enumerate(guide_apps()):
        found[f"guide{number}"] = Site(app)
    return found


def guide_apps() -> list[FastAPI]:
    """The applications of the guide's examples."""
    found: list[FastAPI] = []
    for source in BLOCK.findall(GUIDE.read_text()):
        module = ModuleType("described_guide")
        sys.modules[module.__name__] = module  # where pydantic looks for it
        with documented.project():
            exec(compile(source, str(GUIDE), "exec", dont_inherit=True), vars(module))
        found += [value for value in vars(module).values() if isinstance(value, FastAPI)]
    assert found
    return found
