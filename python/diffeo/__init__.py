"""diffeo: do two neural networks see the same thing up to a smooth, invertible change of coordinates?

The pipeline is the list of modules; each stage imports only earlier ones.

- What a network measures: capture, measuring -> observing -> observation (with neighborhoods, noise, shrinkage,
  whitening, rank, smoothing), and neurons, which chooses what to measure.
- Diffusion coordinates: bandwidth -> kernel -> diffusion_map -> selection.
- Isometric coordinates: periods -> graph -> linear_systems, acceleration -> gauss_newton -> layout -> frames ->
  development -> unfolding -> isometry, with interpolation both ways.
- Joining two sides: charts -> landmarks -> alignment; where landmarks are few, freedom -> likeness -> extents ->
  motions -> closed -> candidates; where the domain is curved, atlas -> correspondence -> placement -> registration;
  then residual (what landmarks still teach) -> diagnostics -> transformation -> regression (maps from landmarks alone)
  -> matching, and reconstruction.
- Judging: baselines (what plain fits achieve), losses -> equivalence -> report (told by report_text, drawn by svg ->
  report_figures -> report_page) -> reasons -> assessing; layer by layer, layer_comparison -> layers; without pairs,
  fingerprints -> overlay -> evidence -> screening.
- Files and commands: storage (with residual_storage, report_storage); array_files, saved_network -> commands -> cli.

Names load when first used (PEP 562), so that ``import diffeo`` loads neither torch, scikit-learn nor matplotlib.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffeo.diffusion.diffusion_map import DiffusionMap as DiffusionMap
    from diffeo.diffusion.kernel import mahalanobis_kernel as mahalanobis_kernel
    from diffeo.files.saved import load as load
    from diffeo.isometry.embedding import IsometricEmbedding as IsometricEmbedding
    from diffeo.matching.match_observations import match as match
    from diffeo.matching.reconstruction import Reconstruction as Reconstruction
    from diffeo.matching.reconstruction import reconstruct as reconstruct
    from diffeo.matching.transformation import Transformation as Transformation
    from diffeo.networks.capture_activations import capture as capture
    from diffeo.networks.capture_activations import capture_networks as capture_networks
    from diffeo.networks.neuron_choice import NeuronSet as NeuronSet
    from diffeo.networks.neuron_choice import suggest_neurons as suggest_neurons
    from diffeo.networks.observe_networks import observe as observe
    from diffeo.networks.observe_networks import observe_layers as observe_layers
    from diffeo.networks.reduction import RandomProjection as RandomProjection
    from diffeo.observation.observation import Observation as Observation
    from diffeo.screening.screen_observations import Screening as Screening
    from diffeo.screening.screen_observations import screen as screen
    from diffeo.verdict.assess_transformation import assess as assess
    from diffeo.verdict.error_bounds import relative_error as relative_error
    from diffeo.verdict.layer_comparison import LayerComparison as LayerComparison
    from diffeo.verdict.layers import compare_layers as compare_layers
    from diffeo.verdict.report import Report as Report

__version__ = "0.1.0"

_HOME = {
    "DiffusionMap": "diffusion.diffusion_map",
    "IsometricEmbedding": "isometry.embedding",
    "LayerComparison": "verdict.layer_comparison",
    "NeuronSet": "networks.neuron_choice",
    "Observation": "observation.observation",
    "RandomProjection": "networks.reduction",
    "Reconstruction": "matching.reconstruction",
    "Report": "verdict.report",
    "Screening": "screening.screen_observations",
    "Transformation": "matching.transformation",
    "assess": "verdict.assess_transformation",
    "capture": "networks.capture_activations",
    "capture_networks": "networks.capture_activations",
    "compare_layers": "verdict.layers",
    "load": "files.saved",
    "mahalanobis_kernel": "diffusion.kernel",
    "match": "matching.match_observations",
    "observe": "networks.observe_networks",
    "observe_layers": "networks.observe_networks",
    "reconstruct": "matching.reconstruction",
    "relative_error": "verdict.error_bounds",
    "screen": "screening.screen_observations",
    "suggest_neurons": "networks.neuron_choice",
}
_MODULES = ("errors", "reference")

__all__ = [*sorted(_HOME), "__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        # Looked up each time rather than stored: a stored function would shadow the submodule of its name.
        return getattr(importlib.import_module(f"diffeo.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"diffeo.{name}")
    raise AttributeError(f"module 'diffeo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps ``diffeo.capture`` the function, although importing the submodule of that name would overwrite it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
