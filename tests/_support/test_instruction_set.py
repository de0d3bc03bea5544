"""The instruction-set levels: what is chosen, that each works, and that none carries code of another."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from diffeo import errors
from diffeo._support import _cpu, core, instruction_set

AVAILABLE = instruction_set.available()
EXTENSIONS = ["_cpu", "_core", *("_loops_" + level.replace("-", "_") for level in AVAILABLE)]

# Registers that a level may not touch: those of 256 bits came with AVX, those of 512 bits with AVX-512.
FORBIDDEN = {
    "_cpu": ("%ymm", "%zmm"),
    "_core": ("%ymm", "%zmm"),
    "_loops_x86_64": ("%ymm", "%zmm"),
    "_loops_x86_64_v3": ("%zmm",),
}

PIPELINE = """
import sys
import numpy as np
from diffeo import DiffusionMap, Observation
from diffeo._support import core
rng = np.random.default_rng(0)
x = rng.random((3000, 2))
points = np.column_stack([x, np.sin(x[:, 0]), x[:, 0] * x[:, 1]])
slopes = np.zeros((3000, 4, 2))
slopes[:, 0, 0] = slopes[:, 1, 1] = 1.0
slopes[:, 2, 0] = np.cos(x[:, 0])
slopes[:, 3] = x[:, ::-1]
fits = [DiffusionMap(n_components=3, n_jobs=k).fit(Observation.from_jacobians(points, slopes)) for k in (1, 2, 3)]
same = all(np.array_equal(fits[0].embedding_, other.embedding_) for other in fits)
print(core.INSTRUCTION_SET, core.__name__, core.MetricTree.__module__, same)
np.save(sys.argv[1], fits[0].operator_.sorted_indices().data)
"""


def run(code, level, *arguments):
    """What a fresh interpreter prints at the given level."""
    environment = {**os.environ, instruction_set.VARIABLE: level}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def path_of(extension):
    return importlib.util.find_spec(f"diffeo._support.{extension}").origin


def test_levels_are_listed_in_ascending_order():
    supported = _cpu.instruction_sets()
    assert supported == [level for level in instruction_set.LEVELS if level in supported]
    assert [level for level in supported if level in AVAILABLE] == AVAILABLE
    assert AVAILABLE


def test_the_highest_level_is_chosen(monkeypatch):
    monkeypatch.delenv(instruction_set.VARIABLE, raising=False)
    assert instruction_set.choose() == AVAILABLE[-1]
    monkeypatch.setenv(instruction_set.VARIABLE, "")
    assert instruction_set.choose() == AVAILABLE[-1]


@pytest.mark.parametrize("level", AVAILABLE)
def test_the_environment_forces_a_level(level, monkeypatch):
    monkeypatch.setenv(instruction_set.VARIABLE, level)
    assert instruction_set.choose() == level


def test_this_process_uses_the_level_that_its_environment_asks_for():
    assert instruction_set.choose() == core.INSTRUCTION_SET


def test_a_lesser_processor_gets_a_lower_level(monkeypatch):
    monkeypatch.delenv(instruction_set.VARIABLE, raising=False)
    for count in range(1, len(AVAILABLE) + 1):
        monkeypatch.setattr(_cpu, "instruction_sets", lambda count=count: AVAILABLE[:count])
        assert instruction_set.choose() == AVAILABLE[count - 1]


def test_a_level_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(_cpu, "instruction_sets", lambda: AVAILABLE[:1])
    monkeypatch.setenv(instruction_set.VARIABLE, "x86-64-v9")
    with pytest.raises(
        errors.ParameterError, match=rf"'x86-64-v9' is not available here: choose {AVAILABLE[0]}, or unset"
    ):
        instruction_set.choose()


def test_a_processor_that_runs_no_built_level(monkeypatch):
    monkeypatch.setattr(_cpu, "instruction_sets", lambda: ["abacus"])
    monkeypatch.delenv(instruction_set.VARIABLE, raising=False)
    with pytest.raises(
        errors.MissingDependencyError, match=rf"built for .*{AVAILABLE[-1]}, but this processor runs abacus"
    ):
        instruction_set.choose()


def test_the_core_takes_loops_from_its_own_modules_alone():
    for other in (None, "loops", object()):
        with pytest.raises(ValueError, match="invalid PyCapsule"):
            core.use_loops(other)
    assert instruction_set.choose() == core.INSTRUCTION_SET


@pytest.mark.parametrize("level", AVAILABLE)
def test_loops_say_which_level_they_are_of(level):
    module = importlib.import_module("diffeo._support._loops_" + level.replace("-", "_"))
    in_use = core.INSTRUCTION_SET
    try:
        assert core.use_loops(module.LOOPS) == level
    finally:
        core.use_loops(importlib.import_module("diffeo._support._loops_" + in_use.replace("-", "_")).LOOPS)


def test_a_build_without_its_core_says_so(monkeypatch):
    found = instruction_set._find
    monkeypatch.setattr(instruction_set, "_find", lambda name: None if name == "_core" else found(name))
    with pytest.raises(errors.MissingDependencyError, match="_core is not there"):
        instruction_set.load_core("diffeo._support.core")


def test_levels_agree_to_rounding_and_threads_to_the_bit(tmp_path):
    operators = []
    for level in AVAILABLE:
        file = tmp_path / f"{level}.npy"
        assert run(PIPELINE, level, str(file)) == [level, "diffeo._support.core", "diffeo._support.core", "True"]
        operators.append(np.load(file))
    for operator in operators:
        np.testing.assert_allclose(operator, operators[0], rtol=1e-9)


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_extensions_export_their_initialiser_only(extension):
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", path_of(extension)], capture_output=True, text=True, check=True
    ).stdout
    initialiser = {"_cpu": "PyInit__cpu", "_core": "PyInit_core"}.get(extension, f"PyInit_{extension}")
    assert [line.split()[-1] for line in listed.splitlines()] == [initialiser]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize("extension", [name for name in EXTENSIONS if name in FORBIDDEN])
def test_no_level_holds_instructions_of_a_higher_one(extension):
    code = subprocess.run(["objdump", "-d", path_of(extension)], capture_output=True, text=True, check=True).stdout
    assert "%rsp" in code
    assert not any(register in code for register in FORBIDDEN[extension])


@pytest.mark.parametrize("theirs", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_that_wait_sleep_soon_unless_the_user_says_how_they_wait(theirs, monkeypatch):
    for variable in (*instruction_set.WAITING, "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in theirs.items():
        monkeypatch.setenv(variable, value)
    before = dict(os.environ)
    with instruction_set._sleeping():
        expected = theirs or instruction_set.WAITING
        assert {name: os.environ.get(name) for name in expected} == expected
        assert dict(os.environ) == before | expected
    assert dict(os.environ) == before
