"""What ``import diffeo`` loads, and the names it offers."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import diffeo
import numpy as np
import pytest
from diffeo import errors


def run(code):
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_loads_no_heavy_package():
    heavy = run(
        "import sys, diffeo\n"
        "names = ('torch', 'sklearn', 'matplotlib', 'scipy', 'numpy', 'diffeo._support.core')\n"
        "print(*[m for m in names if m in sys.modules])"
    )
    assert heavy == []


def test_observations_and_kernels_need_neither_torch_nor_sklearn():
    heavy = run(
        "import sys, diffeo\n"
        "diffeo.Observation, diffeo.mahalanobis_kernel, diffeo.observe\n"
        "print(*[m for m in ('torch', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    assert heavy == []


def test_diffusion_map_needs_no_torch():
    loaded = run(
        "import sys, diffeo\n"
        "diffeo.DiffusionMap\n"
        "print(*[m for m in ('torch', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    assert loaded == ["sklearn"]


@pytest.mark.parametrize(
    "name", ["DiffusionMap", "Observation", "capture", "mahalanobis_kernel", "observe", "suggest_neurons"]
)
def test_lazy_names(name):
    value = getattr(diffeo, name)
    assert value.__name__ == name
    assert callable(value)
    assert value is getattr(diffeo, name)


def test_lazy_modules():
    assert diffeo.errors is errors
    assert diffeo.reference.__name__ == "diffeo.reference"


def test_no_public_name_is_a_folder_or_a_module():
    # A submodule, once imported, would take the place of the function of its name.
    beside = {path.stem for path in Path(diffeo.__file__).parent.iterdir()}
    assert not beside & set(diffeo._HOME)
    assert type(diffeo) is ModuleType


def test_functions_that_use_diffeo_can_be_sent_elsewhere():
    cloudpickle = pytest.importorskip("cloudpickle")

    def job():
        return diffeo.relative_error(np.ones((3, 2)), np.eye(3, 2))

    # Pickled by value, with the global `diffeo`, as joblib, dask and ray do with functions of a notebook.
    assert cloudpickle.loads(cloudpickle.dumps(job))() == job()
    assert copy.deepcopy(job)() == job()


def test_unknown_names():
    with pytest.raises(AttributeError, match="has no attribute 'telepathy'"):
        _ = diffeo.telepathy
    with pytest.raises(ImportError):
        from diffeo import telepathy  # noqa: F401


def test_dir_lists_the_public_names():
    listed = dir(diffeo)
    assert set(diffeo.__all__) == set(listed)
    assert {"DiffusionMap", "Observation", "observe", "match", "load", "capture", "errors"} <= set(listed)


@pytest.mark.parametrize("name", sorted(diffeo._HOME))
def test_every_listed_name_exists(name):
    assert getattr(diffeo, name).__name__ == name


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_a_base(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.DiffeoWarning if name.endswith("Warning") else errors.DiffeoError)
    assert kind.__doc__
    assert kind.__module__ == "diffeo.errors"


def test_errors_are_the_fitting_built_ins():
    pairs = [
        (errors.InputError, ValueError),
        (errors.DataTypeError, TypeError),
        (errors.ParameterError, ValueError),
        (errors.LayerError, LookupError),
        (errors.ConvergenceError, RuntimeError),
        (errors.MemoryLimitError, MemoryError),
        (errors.MissingDependencyError, ImportError),
        (errors.StorageError, OSError),
        (errors.DiffeoWarning, UserWarning),
    ]
    assert all(issubclass(own, built_in) for own, built_in in pairs)
