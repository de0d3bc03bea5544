"""Fresh environments to test an installed diffeo in: interpreters, requirements of pyproject.toml, a copy of the tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
# What would make a child import, or pip choose, something other than what is asked for here.
LEFT_OUT = ("PYTHONPATH", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "VIRTUAL_ENV")


def say(*words: Any) -> None:
    """Print at once: the output of children stands between."""
    print(*words, flush=True)


def child_environment() -> dict[str, str]:
    """The environment variables of all commands; waiting threads sleep, which is faster on shared cores."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    return {"OMP_WAIT_POLICY": "passive", **quiet, **kept}


def run(*command: str | Path, path: Path | None = None) -> None:
    """Run a command, said before, with a folder at the front of PATH; CalledProcessError if it fails."""
    say("+", *command)
    variables = child_environment()
    if path is not None:
        variables["PATH"] = os.pathsep.join([str(path), variables.get("PATH", os.defpath)])
    subprocess.run([str(word) for word in command], env=variables, check=True)


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; CalledProcessError if it fails."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=child_environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def version_of(python: str | Path) -> str | None:
    """Version X.Y of an interpreter, None if it does not run."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, env=child_environment(), check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def find_python(version: str, given: Sequence[str] = ()) -> str | None:
    """An interpreter of version X.Y: among those given, the running one, on PATH, of pyenv; None if there is none."""
    on_path = shutil.which(f"python{version}")
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    for candidate in (*given, sys.executable, *([on_path] if on_path else []), *map(str, of_pyenv)):
        if version_of(candidate) == version:
            return candidate
    return None


def fresh(python: str, folder: Path) -> Path:
    """Make an environment with the newest pip; returns its interpreter."""
    run(python, "-m", "venv", "--clear", "--upgrade-deps", folder)
    return folder / "bin" / "python"


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    with open(TREE / "pyproject.toml", "rb") as file:
        return tomllib.load(file)


def requirements(extras: Iterable[str] = ()) -> list[str]:
    """Dependencies and those of the extras, extras of diffeo itself resolved, without torch."""
    table = project()["project"]

    def listed(names: Iterable[str]) -> Iterator[str]:
        for name in names:
            for requirement in table["optional-dependencies"][name]:
                own = re.fullmatch(r"diffeo\[(.+)\]", requirement)
                yield from listed(re.split(r"\s*,\s*", own[1])) if own else (requirement,)

    found = dict.fromkeys([*table["dependencies"], *listed(extras)])
    return [requirement for requirement in found if name_of(requirement) != "torch"]


def build_requirements() -> list[str]:
    """What builds the package: those of pyproject.toml, and CMake with its lower bound, as `scikit-build-core` reads it."""
    table = project()
    cmake = table["tool"]["scikit-build"]["cmake"]["version"]
    return [*table["build-system"]["requires"], f"cmake{cmake}", "ninja"]


def name_of(requirement: str) -> str:
    """The package that a requirement names."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0]


def pinned(name: str) -> str:
    """The requirement name==version that constraints.txt pins."""
    text = (TREE / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==\S+$", text, re.MULTILINE)
    assert found, f"constraints.txt does not pin {name}"
    return found[0]


def install_torch(python: Path, requirement: str) -> bool:
    """Install torch if the index has a build for processors alone; else say so (the others are gigabytes of CUDA)."""
    command = (python, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", requirement)
    try:
        planned = [one["metadata"]["name"].lower() for one in json.loads(output(*command))["install"]]
    except subprocess.CalledProcessError:
        say(f"no {requirement} for this interpreter")
        return False
    if any(name.startswith(("nvidia", "cuda", "triton")) for name in planned):
        say(f"{requirement} is offered with CUDA only; bring an index of builds for processors in PIP_EXTRA_INDEX_URL")
        return False
    run(python, "-m", "pip", "install", "--quiet", requirement)
    return True


def copied_tree(folder: Path) -> Path:
    """A copy of what git does not ignore; without a repository, of everything that was handed out."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(listing, cwd=TREE, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.copytree(TREE, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__", ".*venv*", "build", "dist"))
        return folder
    for name in filter(None, done.stdout.split("\0")):
        source, target = TREE / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def test(python: Path, tree: Path, arguments: Sequence[str]) -> bool:
    """Run the tests of a copied tree on the installed package; whether they passed."""
    where = Path(output(python, "-c", "import diffeo; print(diffeo.__file__)", cwd=tree))
    assert where.is_relative_to(python.parents[1]), f"the tests would run on {where}, not on what was installed"
    say(output(python, "-m", "pip", "list", "--format=freeze"))
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    say("+", *command)
    return subprocess.run(command, cwd=tree, env=child_environment(), check=False).returncode == 0
