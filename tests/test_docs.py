"""What the pages name exists: commands, options, exit codes, files and sections.

Rule 1: docs/commands.md is generated; `GOLDEN=rewrite` makes its test write it.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from soupctl import verbs
from soupctl.errors import SoupError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = ROOT / "docs" / "commands.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md"]
OF_SCHEDULERS = {"--array", "--dependency", "--no-python"}
OF_OTHERS = {"--help", "--conv", "--config-settings", *OF_SCHEDULERS}
"""Options that are no command's own."""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator of the reference."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return import_module("command_reference")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_reference_of_commands_is_current(tool: ModuleType) -> None:
    if os.environ.get("GOLDEN") == "rewrite":
        REFERENCE.write_text(tool.page(), "utf-8")

    current = tool.page() == REFERENCE.read_text("utf-8")

    assert current, "docs/commands.md is not current: run python tools/command_reference.py"


def test_the_readme_lists_every_command_in_the_order_of_help(tool: ModuleType) -> None:
    rows = re.findall(r"^\| `soupctl ([\w-]+)", README, re.MULTILINE)
    titles = [title for title, _ in tool.sections()]

    assert titles == ["soupctl", *(f"soupctl {row}" for row in rows)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    known = set(re.findall(r"--[a-z][a-z0-9-]+", REFERENCE.read_text("utf-8")))

    named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z0-9-]+)", page.read_text("utf-8")))

    assert sorted(named - known - OF_OTHERS) == []


def test_every_exit_code_of_an_error_is_in_the_readme() -> None:
    codes = {kind.exit_code for kind in SoupError.__subclasses__()}
    (first, *rows) = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", README, re.MULTILINE)

    documented = {int(code) for row, _ in [first, *rows] for code in row.split(", ")}

    assert documented == codes | {0, 1, 70, 130, 143, 141}


def anchors(text: str) -> set[str]:
    """The names that sections of a page have in links."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file or section of this tree."""
    found: Any = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    missing = []
    for link in found:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            missing.append(link)
    return missing


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_the_readme_links_to_every_page() -> None:
    pages = [name_of(page) for page in PAGES[1:]]

    assert [page for page in pages if f"]({page})" not in README] == []


def test_the_python_page_names_the_exported_names() -> None:
    named = set(re.findall(r"verbs\.(\w+)", (ROOT / "docs" / "python.md").read_text("utf-8")))

    assert len(named) > 15
    assert named - set(verbs.__all__) == set()


def test_the_glossary_defines_each_word_once() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Words\n")[2]
    words = re.findall(r"^\| ([a-z ]+) \| .+ \|$", text.partition("\n## ")[0], re.MULTILINE)

    assert len(words) > 20
    assert sorted(set(words)) == sorted(words)


def test_every_url_of_the_project_is_on_a_page() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    text = "".join(page.read_text("utf-8") for page in PAGES)

    assert [url for url in urls.values() if f"]({url})" not in text] == []


def test_ci_runs_the_readmes_own_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")

    assert "readme_command install" in script
    assert "readme_command test" in script
    assert README.count("<!-- ci: install -->") == README.count("<!-- ci: test -->") == 1
