"""What is asked of a measurement of a network, and checked before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._support.arrays import integer, real
from diffeo.networks.batches import check_smooth
from diffeo.networks.recipes.measured import Measurement
from diffeo.networks.reduction import Reduce

if TYPE_CHECKING:
    import torch

CovarianceKind = Literal["auto", "jacobians", "slopes", "bursts"]
KINDS: tuple[CovarianceKind, ...] = ("auto", "jacobians", "slopes", "bursts")
BurstSize = int | Literal["auto"]
Neurons = int | ArrayLike | None


class Asked(TypedDict, total=False):
    """Keywords of `measure`, which are fields of `Recipe`."""

    reduce: Reduce
    smooth: float | None
    neurons: Neurons | Mapping[str, Any]
    covariances: CovarianceKind
    n_bursts: BurstSize
    scale: float | None
    tangents: NDArray[Any] | torch.Tensor | None
    batch_size: int
    device: Any
    rng: int | np.random.Generator | None
    verbose: bool


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is asked of a measurement; the fields are described at `diffeo.networks.measurement.measure`. What came
    of it, `MeasureOptions` says.
    """

    reduce: Reduce = None
    smooth: float | None = None
    neurons: Neurons | Mapping[str, Any] = None
    covariances: CovarianceKind = "auto"
    n_bursts: BurstSize = "auto"
    scale: float | None = None
    tangents: Any = None
    batch_size: int = 1024
    device: Any = None
    rng: int | np.random.Generator | None = 0
    verbose: bool = False
    # The largest rank that slopes can have; None: what derivatives at some samples show.
    rank: int | None = None

    def checked(self) -> Recipe:
        """The recipe with its numbers as Python's own, after all parameters that need no network were checked."""
        integer(self.batch_size, "batch_size", 1)
        if self.covariances not in KINDS:
            raise errors.ParameterError(
                f"covariances is one of {', '.join(map(repr, KINDS))}; got {self.covariances!r}"
            )
        if self.covariances != "jacobians":
            if self.n_bursts != "auto":
                integer(self.n_bursts, "n_bursts", 2)
        elif self.scale is not None:
            raise errors.ParameterError("scale is for covariances='auto', 'slopes' or 'bursts'; Jacobians have none")
        scale = None if self.scale is None else real(self.scale, "scale", above=0.0)
        return replace(self, scale=scale, smooth=check_smooth(self.smooth))

    def like(self, measured: Measurement) -> Recipe:
        """The recipe by which other inputs are measured as these were: the same neurons, kind and size of bursts."""
        options, kind = measured.options, self.covariances
        if kind == "auto":
            kind = "jacobians" if options.n_bursts is None else "slopes"
        size = options.n_bursts or self.n_bursts
        return replace(self, neurons=measured.neurons, covariances=kind, scale=measured.scale, n_bursts=size)
