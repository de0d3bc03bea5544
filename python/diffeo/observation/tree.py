"""The search tree over an observation's samples, under their own metric."""

from __future__ import annotations

from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.progress import stage
from diffeo.observation.observation import Observation


def build_tree(observation: Observation | FloatArray, n_threads: int) -> core.MetricTree:
    """Search tree over the samples with full rank (all samples of a plain array)."""
    with stage("tree"):
        if not isinstance(observation, Observation):
            return core.MetricTree(observation, None, n_threads)
        rows = observation.usable
        if len(rows) == len(observation):
            return core.MetricTree(observation.points, observation.whitening, n_threads)
        return core.MetricTree(observation.points[rows], observation.whitening[rows], n_threads)
