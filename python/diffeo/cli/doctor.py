"""What ``diffeo doctor`` does: which level runs, how many threads, what is installed, and a short check of speed and bits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

import numpy as np

from diffeo import __version__, errors
from diffeo._support import core, instruction_set
from diffeo._support.memory import memory_limit
from diffeo._support.threads import processors
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.observation.observation import Observation

REQUIRED = ("numpy", "scipy", "scikit-learn", "joblib", "jinja2", "safetensors", "threadpoolctl", "tqdm")
# Optional packages by the extra that brings them.
EXTRAS = {"torch": "torch", "matplotlib": "plot", "scikit-image": "demo"}
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "DIFFEO_INSTRUCTION_SET", "DIFFEO_MEMORY_LIMIT")
# Samples of the check: a few seconds on one slow thread.
SAMPLES = 20_000
# A square's inputs come back from exact derivatives far better than this.
WORST_ERROR = 1e-3
# Residuals of eigenpairs, by the default tolerance of the solver.
WORST_RESIDUAL = 1e-8


def facts() -> dict[str, Any]:
    """What runs here, and what is installed; the memory is in bytes, and packages that are missing are None."""
    packages = dict[str, str | None]()
    for package in (*REQUIRED, *EXTRAS):
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            packages[package] = None
    return {
        "diffeo": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instructions": core.INSTRUCTION_SET,
        "available": instruction_set.available(),
        "threads": core.n_threads(0),
        "processors": processors(),
        "memory_limit": memory_limit(),
        "packages": packages,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def checks(samples: int = SAMPLES) -> dict[str, Any]:
    """Both kinds of coordinates of a square seen through five measurements: on one thread, on all, and against the truth.

    Returns
    -------
    dict
        Seconds of ``diffusion_1``, ``isometric_1`` (one thread), ``diffusion_all`` and ``isometric_all``; ``same_bits``;
        the relative ``error`` of the inputs, up to a motion; the largest ``residual`` of an eigenpair.
    """
    rng = np.random.default_rng(0)
    inputs, slopes = rng.random((samples, 2)), np.array([[1.0, 0.2], [0.3, 0.9], [-0.8, 0.5], [0.6, -0.7], [0.1, 1.1]])
    points = np.tanh(inputs @ slopes.T)
    obs = Observation.from_jacobians(points, (1 - points**2)[:, :, None] * slopes)
    found: dict[str, Any] = {"samples": samples}
    embeddings = list[tuple[Any, Any]]()
    # At least two, or nothing is compared.
    for name, n_jobs in (("1", 1), ("all", max(2, core.n_threads(0)))):
        start = time.perf_counter()
        diffusion = DiffusionMap(n_components=4, n_jobs=n_jobs).fit(obs)
        middle = time.perf_counter()
        isometric = IsometricEmbedding(n_jobs=n_jobs).fit(obs)
        found[f"diffusion_{name}"], found[f"isometric_{name}"] = middle - start, time.perf_counter() - middle
        embeddings.append((diffusion.embedding_, isometric.embedding_))
    one, all_of_them = embeddings
    found["same_bits"] = all(np.array_equal(a, b) for a, b in zip(one, all_of_them, strict=True))
    found["residual"] = float(diffusion.residuals_.max())
    # Procrustes: the rotation or reflection that brings the coordinates nearest to the inputs.
    own, true = (x - x.mean(axis=0) for x in (isometric.embedding_, inputs))
    left, _, right = np.linalg.svd(own.T @ true)
    found["error"] = float(np.linalg.norm(own @ left @ right - true) / np.linalg.norm(true))
    return found


def examine(samples: int = SAMPLES) -> tuple[dict[str, Any], str, int]:
    """All of it; facts, a text to print, and 0 if all is well, 1 if something is not."""
    known, found, wrong, hints = facts(), dict[str, Any](), list[str](), list[str]()
    missing = [name for name in REQUIRED if known["packages"][name] is None]
    if missing:
        wrong.append(f"{', '.join(missing)}: not installed, and diffeo needs them: pip install {' '.join(missing)}")
    if known["instructions"] != known["available"][-1]:
        hints.append(
            f"{instruction_set.VARIABLE} keeps diffeo from {known['available'][-1]}, which this processor runs"
        )
    if known["threads"] < known["processors"]:
        hints.append(
            f"{known['threads']} of {known['processors']} processors are used (OMP_NUM_THREADS, or n_jobs of each call)"
        )
    for package, extra in EXTRAS.items():
        if known["packages"][package] is None:
            hints.append(f"{package} is not installed: pip install 'diffeo[{extra}]' brings it")
    try:
        found = checks(samples)
    except errors.DiffeoError as error:
        wrong.append(f"the check did not run: {error}")
    else:
        if not found["same_bits"]:
            wrong.append("one thread and all of them give different bits: please report this, with what stands above")
        if not (found["error"] <= WORST_ERROR and found["residual"] <= WORST_RESIDUAL):
            wrong.append(
                f"inputs are recovered to {found['error']:.1e} only (at most {WORST_ERROR:.0e} is right), with residuals of "
                f"{found['residual']:.1e} (at most {WORST_RESIDUAL:.0e}): please report this, with what stands above"
            )
    everything = {"facts": known, "check": found, "wrong": wrong, "hints": hints}
    return everything, _told(everything), 1 if wrong else 0


def _told(everything: dict[str, Any]) -> str:
    """The whole as text."""
    known, found = everything["facts"], everything["check"]
    rows = [
        ("diffeo", f"{known['diffeo']}, Python {known['python']}, {known['machine']}"),
        ("instructions", f"{known['instructions']} (available: {', '.join(known['available'])})"),
        ("threads", f"{known['threads']} of {known['processors']} processors"),
        ("memory", f"one result may take {known['memory_limit'] / 2**30:.1f} GiB"),
        *known["environment"].items(),
        *((name, version or "not installed") for name, version in known["packages"].items()),
    ]
    if found:
        times = "{} {:.2f} s on one thread, {:.2f} s on all"
        rows += [
            ("speed", times.format("diffusion map ", found["diffusion_1"], found["diffusion_all"])),
            ("", times.format("isometric     ", found["isometric_1"], found["isometric_all"])),
            ("", f"({found['samples']:,} samples of five measurements)"),
            (
                "bits",
                "the same on one thread and on all" if found["same_bits"] else "differ between one thread and all",
            ),
            ("accuracy", f"inputs recovered to {found['error']:.1e}, residuals at most {found['residual']:.1e}"),
        ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{text}" for name, text in rows]
    lines += [f"note: {text}" for text in everything["hints"]]
    lines += [f"wrong: {text}" for text in everything["wrong"]] or ["All is well."]
    return "\n".join(lines)
