"""The pages of the site: every public name has its place, and what a page names is there. Sphinx checks the rest."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import diffeo
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md")) + sorted((DOCS / "guides").glob("*.md")) + sorted((DOCS / "reference").glob("*.md"))
SCRIPTS = sorted((DOCS / "tutorials").glob("*.py")) + sorted((DOCS / "concepts").glob("*.py"))


def test_every_public_name_has_a_page():
    listed = re.findall(r"^   (\w+)$", (DOCS / "reference" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(diffeo.__all__) - {"__version__", "errors", "reference"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_link_to_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+\.md)\)", text) + re.findall(r"\{include\} (\S+)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
    documents = re.findall(r"\{doc\}`(?:[^`<]*<)?(/?auto/[^`>]+)>?`", text) + re.findall(r"\]\((auto/[^)]+)\)", text)
    known = {f"auto/{script.parent.name}/{script.stem}" for script in SCRIPTS}
    assert {document.lstrip("/") for document in documents} <= known


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_say_what_they_are_about_and_use_public_names(script):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    title, line = ast.get_docstring(tree).splitlines()[:2]
    assert line == "=" * len(title)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "diffeo"
    }
    assert used <= set(diffeo.__all__)


def test_the_version_is_one_everywhere():
    root = DOCS.parent
    assert f"\nversion: {diffeo.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f'\nversion = "{diffeo.__version__}"\n' in (root / "pyproject.toml").read_text(encoding="utf-8")
    # What is not released yet may stand above.
    assert f"\n## {diffeo.__version__} (" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_commands_of_the_readme_are_those_of_the_guide():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    guide = (DOCS / "guides" / "command_line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(diffeo .*?)```", readme, re.DOTALL)
    assert blocks
    assert all(block in guide for block in blocks)


def test_two_kinds_of_networks_go_to_a_verdict_in_ten_lines():
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib").use("agg")
    script = DOCS / "tutorials" / "t8_ten_lines.py"
    # Cells of a gallery script: text, an empty line, code.
    cells = [cell for cell in script.read_text(encoding="utf-8").split("\n# %%\n") if "**The ten lines.**" in cell]
    of_the_user = [cell.split("\n\n", 1)[1].strip().splitlines() for cell in cells]
    assert len(of_the_user) == 2
    assert all(len(lines) <= 10 for lines in of_the_user)
    found = runpy.run_path(str(script))
    for report in (found["convolutional_report"], found["transformer_report"]):
        assert report.verdict == "equivalent"
        assert max(report.forward.error, report.backward.error) < 0.02
