"""What a measurement of one layer of a network gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.observation.how_measured import MeasureOptions


@dataclass(frozen=True, eq=False)
class Measurement:
    """What `measure` saw of one layer at n samples; exactly one of `jacobians` and `bursts` is there.

    Attributes
    ----------
    points : ndarray (n, m), float64, C-contiguous
        The measured neurons.
    jacobians : ndarray (n, m, p), float64, or None
        dy/dx on flattened inputs (p = input size), or (dy/dx) T with p = d tangents; or slopes over bursts in their place.
    bursts : ndarray (n, K, m), float64, or None
        The same neurons at K perturbed inputs per sample.
    options : MeasureOptions
        How it was measured. Its layer has ":k" for the k-th of several calls; scale and number of bursts are None with exact
        derivatives.
    precision : str
        "single" or "double": in which the network computed.
    directions : int or None
        Number of tangents, or of coordinates of an input: no more dimensions can show.
    """

    points: FloatArray
    jacobians: FloatArray | None
    bursts: FloatArray | None
    options: MeasureOptions
    precision: str = "double"
    directions: int | None = None

    def __post_init__(self) -> None:
        if (self.jacobians is None) == (self.bursts is None):
            raise errors.InputError("a measurement has either jacobians or bursts")
        if self.scale is None and self.bursts is not None:
            raise errors.InputError("bursts need the scale of their perturbations")

    def joined(self, more: Measurement) -> Measurement:
        """Both this and what was measured alike at further samples."""
        around = None if self.jacobians is None else np.concatenate([self.jacobians, _there(more.jacobians)])
        bursts = None if self.bursts is None else np.concatenate([self.bursts, _there(more.bursts)])
        points = np.concatenate([self.points, more.points])
        return replace(self, points=points, jacobians=around, bursts=bursts)

    def select(self, columns: IntArray) -> Measurement:
        """Some of the measured columns, in this order."""
        around = None if self.jacobians is None else np.ascontiguousarray(self.jacobians[:, columns])
        bursts = None if self.bursts is None else np.ascontiguousarray(self.bursts[:, :, columns])
        options = replace(self.options, neurons=self.neurons[columns])
        points = np.ascontiguousarray(self.points[:, columns])
        return replace(self, points=points, jacobians=around, bursts=bursts, options=options)

    def as_auto(self) -> Measurement:
        """The same, as what "auto" chose."""
        return replace(self, options=replace(self.options, covariances="auto"))

    def with_scale(self) -> tuple[FloatArray, float]:
        """Bursts and their scale, of a measurement that has them."""
        if self.bursts is None or self.scale is None:
            raise errors.InputError("a measurement of Jacobians has no bursts")
        return self.bursts, self.scale

    @property
    def layer(self) -> str | None:
        """Name of the layer; None is the output."""
        return self.options.layer

    @property
    def neurons(self) -> IntArray:
        """Which columns of the flattened layer were measured, (m,)."""
        return np.arange(self.points.shape[1]) if self.options.neurons is None else self.options.neurons

    @property
    def scale(self) -> float | None:
        """Standard deviation of the perturbation per direction, in input units; None with exact derivatives."""
        return self.options.scale


def _there(values: FloatArray | None) -> FloatArray:
    if values is None:
        raise errors.InputError("one measurement has derivatives, and the other bursts")
    return values
