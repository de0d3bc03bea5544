"""diffeo: do two neural networks see the same thing up to a smooth, invertible change of coordinates?

Data flows one way, and the folders are the stages. Each imports only what stands above it in this list, and so do the
modules within it, in the order that its own docstring gives; ``tests/test_house.py`` holds both to it.

- errors: every error and warning; reference: the definitions in plain NumPy.
- _support: checked arrays, wording, threads, progress, memory, and the compiled core.
- observation: what a network measured, with its local metric.
- networks: from torch modules to observations; the only folder that imports torch.
- diffusion: diffusion coordinates, by a sparse kernel and its eigenpairs.
- isometry: isometric coordinates, by a neighbour graph with Mahalanobis lengths.
- charts: one observation with coordinates, both ways.
- alignment: one sample laid on another, in coordinates.
- matching: the change of coordinates between two observations, and its diagnostics.
- verdict: whether two networks see the same thing, judged on held-out pairs.
- screening: what two observations show without any pair.
- report: a verdict as text, page and figures; and plots.
- family: all pairs of many networks, told and drawn.
- files: what is saved and loaded, and the arrays that people bring.
- pairwise: every pair of many networks compared, on one machine or on a cluster.
- cli: the command ``diffeo``.
- demos: experiments on networks trained on the spot.

Names load when first used (PEP 562), so that ``import diffeo`` loads neither torch, scikit-learn nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffeo.charts.chart import Chart as Chart
    from diffeo.charts.chart import embed as embed
    from diffeo.diffusion.diffusion_map import DiffusionMap as DiffusionMap
    from diffeo.diffusion.kernel import mahalanobis_kernel as mahalanobis_kernel
    from diffeo.family.found import Family as Family
    from diffeo.files.saved import load as load
    from diffeo.isometry.embedding import IsometricEmbedding as IsometricEmbedding
    from diffeo.matching.by_pairs.matched import match_pairs as match_pairs
    from diffeo.matching.by_pairs.measured import measure_pairs as measure_pairs
    from diffeo.matching.match_observations import match as match
    from diffeo.matching.pairs import Pairs as Pairs
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
    from diffeo.observation.joining import concatenate as concatenate
    from diffeo.observation.observation import Observation as Observation
    from diffeo.observation.sampling.input_suggestions import SuggestedInputs as SuggestedInputs
    from diffeo.observation.sampling.input_suggestions import suggest_inputs as suggest_inputs
    from diffeo.pairwise.compare_all import compare_family as compare_family
    from diffeo.screening.screen_observations import Screening as Screening
    from diffeo.screening.screen_observations import screen as screen
    from diffeo.verdict.assess_transformation import assess as assess
    from diffeo.verdict.error_bounds import relative_error as relative_error
    from diffeo.verdict.layer_comparison import LayerComparison as LayerComparison
    from diffeo.verdict.layers import compare_layers as compare_layers
    from diffeo.verdict.report import Report as Report

__version__ = "0.2.0"

_HOME = {
    "Chart": "charts.chart",
    "DiffusionMap": "diffusion.diffusion_map",
    "Family": "family.found",
    "IsometricEmbedding": "isometry.embedding",
    "LayerComparison": "verdict.layer_comparison",
    "NeuronSet": "networks.neuron_choice",
    "Observation": "observation.observation",
    "Pairs": "matching.pairs",
    "RandomProjection": "networks.reduction",
    "Reconstruction": "matching.reconstruction",
    "Report": "verdict.report",
    "Screening": "screening.screen_observations",
    "SuggestedInputs": "observation.sampling.input_suggestions",
    "Transformation": "matching.transformation",
    "assess": "verdict.assess_transformation",
    "capture": "networks.capture_activations",
    "capture_networks": "networks.capture_activations",
    "compare_family": "pairwise.compare_all",
    "compare_layers": "verdict.layers",
    "concatenate": "observation.joining",
    "embed": "charts.chart",
    "load": "files.saved",
    "mahalanobis_kernel": "diffusion.kernel",
    "match": "matching.match_observations",
    "match_pairs": "matching.by_pairs.matched",
    "measure_pairs": "matching.by_pairs.measured",
    "observe": "networks.observe_networks",
    "observe_layers": "networks.observe_networks",
    "reconstruct": "matching.reconstruction",
    "relative_error": "verdict.error_bounds",
    "screen": "screening.screen_observations",
    "suggest_inputs": "observation.sampling.input_suggestions",
    "suggest_neurons": "networks.neuron_choice",
}
_MODULES = ("errors", "reference")

__all__ = [*sorted(_HOME), "__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        globals()[name] = found = getattr(importlib.import_module(f"diffeo.{_HOME[name]}"), name)
        return found
    if name in _MODULES:
        return importlib.import_module(f"diffeo.{name}")
    raise AttributeError(f"module 'diffeo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
