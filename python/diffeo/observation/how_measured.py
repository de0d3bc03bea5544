"""How a network was measured: what it takes to measure other inputs in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class LostCallable:
    """Stands for a ``reduce`` that was a callable, which no file holds; `Observation.measure` asks for it again.

    Attributes
    ----------
    name : str
        What it was called, for messages.
    """

    name: str


# What options say of one sample, not of how it was measured.
OF_ONE_SAMPLE = ("added_inputs", "resolved")

Shrinkage = Literal["optimal"] | float | None
Reduction = str | Callable[[Any], Any] | LostCallable | None


@dataclass(frozen=True, eq=False)
class MeasureOptions:
    """How the network of an observation was measured; all None where it was made from arrays.

    Attributes
    ----------
    layer : str or None
        Name of the layer; None is the output.
    neurons : ndarray of shape (m,), int64, or None
        Which columns of the layer were measured; None where that is not known.
    width : int or None
        How many columns the layer has, after `reduce`.
    reduce : {None, "mean", "first", "last"}, callable, or LostCallable
        The rule for this layer.
    smooth : float or None
        Standard deviation of the perturbations over which the network was averaged, in input units.
    covariances : {"auto", "jacobians", "slopes", "bursts"} or None
        What the local covariances were asked to be from; "auto" took slopes over bursts where there are `n_bursts`. None where
        no network was measured.
    n_bursts : int or None
        Members of each burst; None where there were none.
    scale : float or None
        Standard deviation of the perturbations in a burst, in input units.
    shrinkage : "optimal", float or None
        What was removed from the covariances of bursts.
    tangents : bool
        Whether derivatives were taken along given tangents rather than all coordinates of the input.
    complete : bool
        Whether all of this is known, as of what `diffeo.observe` made. Files of formats 1 and 2 and arrays do not say how
        positions were reduced, nor whether the network was smoothed.
    added_inputs : ndarray of shape (k, ...), or None
        Inputs that ``diffeo.observe(..., refine=n)`` added after those that it was given, k <= n.
    resolved : float or None
        Share of the steps between neighbouring inputs that the sample resolved then (see `diffeo.suggest_inputs`).
    """

    layer: str | None = None
    neurons: IntArray | None = None
    width: int | None = None
    reduce: Reduction = None
    smooth: float | None = None
    covariances: str | None = None
    n_bursts: int | None = None
    scale: float | None = None
    shrinkage: Shrinkage = None
    tangents: bool = False
    complete: bool = False
    added_inputs: FloatArray | None = None
    resolved: float | None = None

    @property
    def slopes(self) -> bool:
        """Whether Jacobians are slopes over bursts, as of networks with kinks."""
        return self.n_bursts is not None and self.covariances in ("auto", "slopes")

    @property
    def over_bursts(self) -> str:
        """What a text on the source of covariances ends with where Jacobians are slopes over bursts."""
        return f" over bursts of {self.n_bursts}" if self.slopes else ""

    def differences(self, other: MeasureOptions) -> list[str]:
        """Names of what differs, which two samples of the same measurements have in common."""
        names = [one.name for one in fields(self) if one.name not in OF_ONE_SAMPLE]
        return [name for name in names if not _same(getattr(self, name), getattr(other, name))]

    def rule(self, reduce: Reduction = None) -> Any:
        """The rule by which positions are reduced; a callable that a file could not hold is taken from `reduce`.

        Raises
        ------
        InputError
            How it was measured is not known.
        ParameterError
            The callable is missing, or another rule than that of the observation was given.
        """
        if not self.complete:
            raise errors.InputError(
                "how this observation was measured is not known (it was made from arrays, or loaded from a file of format 1 "
                "or 2): observe the network again, or take diffeo.capture with the same layer, reduce and smooth, and the "
                "columns of .neurons"
            )
        if isinstance(self.reduce, LostCallable):
            if not callable(reduce):
                raise errors.ParameterError(
                    f"positions were reduced by a callable ({self.reduce.name}), which no file holds: give it again as reduce="
                )
            return reduce
        if reduce is not None and not _same(reduce, self.reduce):
            raise errors.ParameterError(
                f"reduce={reduce!r}, but the observation was measured with reduce={self.reduce!r}: other measurements would "
                "not fit it; leave reduce out"
            )
        return self.reduce


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
    return bool(a == b)
