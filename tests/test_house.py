"""The house: folders are stages, and imports point to what stands above. See ``diffeo.__doc__`` for the order."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import diffeo
import pytest

HOME = Path(diffeo.__file__).parent
MAX_MODULES, MAX_LINES, MAX_FIRST_LINE = 15, 400, 128

# Imports inside of functions that point down, and why: a result saves, shows or tells itself, or measures again.
LATE = {
    "_support.notebook -> report.notebook",
    "observation.observation -> files.saved",
    "observation.observation -> networks.observe_networks",
    "charts.chart -> files.saved",
    "matching.pairs -> files.saved",
    "matching.transformation -> files.saved",
    "verdict.layers -> pairwise.tasks",
    "verdict.report -> files.saved",
    "verdict.report -> report.page",
    "verdict.report -> report.text",
    "verdict.report -> verdict.sentences",
    "verdict.layer_comparison -> report.plots",
    "files.saved -> pairwise.stored",
    "family.found -> files.saved",
    "family.found -> family.page",
    "family.found -> family.plots",
    "family.found -> family.text",
}


class Import(NamedTuple):
    """One import of a module of ours by another, both as dotted names without ``diffeo.``."""

    module: str
    imported: str
    late: bool


def modules():
    """Every module by its dotted name without ``diffeo.``; a folder by its own."""
    found = {}
    for path in sorted(HOME.rglob("*.py")):
        parts = path.relative_to(HOME).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
FOLDERS = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def order_of(folder):
    """What stands in a folder, in the order that its docstring gives."""
    text = docstring(FOLDERS[folder])
    if folder == "":
        return [name for line in re.findall(r"^- (.*)$", text, re.MULTILINE) for name in re.findall(r"(\w+): ", line)]
    listed = re.search(r"In order: (.*?)\.$", text, re.DOTALL | re.MULTILINE)
    assert listed, f"{folder}/__init__.py does not say in which order its modules stand"
    return re.findall(r"\w+", listed[1])


def standing_in(folder):
    """Modules and folders directly within a folder."""
    prefix = f"{folder}." if folder else ""
    names = {name.removeprefix(prefix).split(".")[0] for name in MODULES if name and name.startswith(prefix)}
    return names - {"", "__main__", folder.rpartition(".")[2]} if not folder else names - {""}


def imports():
    """All imports among our modules, those of types included."""
    found = []
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        within = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports relatively"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in targets:
                parts = target.split(".")[1:] if target.split(".")[0] == "diffeo" else []
                while parts and ".".join(parts) not in MODULES:
                    parts.pop()
                if parts:
                    found.append(Import(name, ".".join(parts), node in within))
    return found


def place(name):
    """Where a module stands: its rank within each folder on the way to it."""
    parts = name.split(".")
    return [order_of(".".join(parts[:k])).index(part) for k, part in enumerate(parts)]


def points_up(one):
    """Whether what is imported stands above: earlier in the first folder in which both differ."""
    return place(one.imported) < place(one.module)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_lists_what_stands_in_it(folder):
    listed = order_of(folder)
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == standing_in(folder)


def test_imports_point_up_and_late_ones_are_listed():
    down = [one for one in imports() if one.module not in ("", "__main__") and not points_up(one)]
    at_module_level = {f"{one.module} -> {one.imported}" for one in down if not one.late}
    assert not at_module_level
    assert {f"{one.module} -> {one.imported}" for one in down if one.late} == LATE


def test_the_order_of_folders_is_enforced():
    """An import that points down is found: the test above can fail."""
    assert not points_up(Import("observation.observation", "matching.transformation", False))
    assert not points_up(Import("observation.noise", "observation.observation", False))
    assert points_up(Import("matching.transformation", "observation.observation", False))
    assert points_up(Import("alignment.curved.registration", "alignment.linear", False))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_outgrows_a_glance(folder):
    assert len(list(FOLDERS[folder].parent.glob("*.py"))) <= MAX_MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_described_by_its_first_line(name):
    text = docstring(MODULES[name])
    assert text, "no docstring"
    assert len(text.splitlines()[0]) <= MAX_FIRST_LINE
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_no_file_beside_the_package_is_longer():
    """Tests, benchmarks and the core, where the tests stand in a copy of the whole tree."""
    tree = Path(__file__).parents[1]
    files = [
        path
        for kind in ("py", "cpp", "hpp")
        for part in ("tests", "bench", "cpp")
        for path in (tree / part).rglob(f"*.{kind}")
    ]
    assert Path(__file__) in files
    assert not [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES]


def test_one_file_of_the_core_includes_eigen():
    """Its templates take long to compile, and the layout of its types follows the instruction set."""
    core = Path(__file__).parents[1] / "cpp"
    if not core.is_dir():
        pytest.skip("the core is not beside these tests")
    files = [path for kind in ("cpp", "hpp") for path in core.rglob(f"*.{kind}")]
    including = [path.name for path in files if re.search(r"#include <Eigen/", path.read_text(encoding="utf-8"))]
    assert including == ["linear_algebra.cpp"]


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_named_like_what_it_holds(name):
    own = name.rpartition(".")[2]
    held = ast.parse(MODULES[name].read_text(encoding="utf-8")).body
    assert own not in {node.name for node in held if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert not own.strip("_").startswith("util")


def test_only_networks_and_demos_import_torch():
    for name, path in MODULES.items():
        if name.split(".")[0] not in ("networks", "demos"):
            assert not re.search(r"^\s*(import|from) torch\b", path.read_text(encoding="utf-8"), re.MULTILINE), name


def test_filters_of_warnings_are_left_alone():
    """They belong to the process: what is not to be said is handed on as a fact, or given to `errors.unsaid`.

    The command prints warnings itself, the demo's attempts count what the library warns of, and one import of torch warns.
    """
    allowed = {"cli.parser", "demos.attempts", "networks.derivatives"}
    found = [name for name, path in MODULES.items() if "catch_warnings" in path.read_text(encoding="utf-8")]
    assert set(found) == allowed
    assert all(MODULES[name].read_text(encoding="utf-8").count("catch_warnings") == 1 for name in found)
