"""Principal components of measurements: thousands of neurons fill a few dimensions, and maps are learned there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray

# What is left out of the components, as a share of the spread: far below the error of any map.
LEFT_OUT = 1e-11
# Up to so many measurements or samples a full decomposition takes no time; beyond, so many components are sought at most.
FEW, MOST = 400, 256


@dataclass(frozen=True, eq=False)
class Components:
    """Orthonormal coordinates of measurements.

    Attributes
    ----------
    centre : ndarray of shape (m,)
    axes : ndarray of shape (m, r)
        Orthonormal columns.
    """

    centre: FloatArray
    axes: FloatArray

    def reduced(self, points: FloatArray) -> FloatArray:
        """Components (count, r) of measurements (count, m)."""
        found: FloatArray = np.ascontiguousarray((points - self.centre) @ self.axes)
        return found

    def turned(self, jacobians: FloatArray) -> FloatArray:
        """Derivatives (n, r, p) of the components from those (n, m, p) of the measurements."""
        found: FloatArray = np.ascontiguousarray(np.einsum("nmp,mr->nrp", jacobians, self.axes, optimize=True))
        return found

    def restored(self, components: FloatArray) -> FloatArray:
        """Measurements (count, m) with these components (count, r)."""
        found: FloatArray = self.centre + components @ self.axes.T
        return found


def components_of(points: FloatArray, left_out: float = 0.0) -> Components:
    """All principal components of points (n, m) above rounding, 256 at most where there are many of both.

    Fewer where the last ones together are no more than the share `left_out` of the spread.

    Beyond 400 samples and measurements by a randomised decomposition (Halko, Martinsson and Tropp 2011), so that nothing is
    of the size of m by m.
    """
    centre = points.mean(axis=0)
    offsets = points - centre
    if min(offsets.shape) <= FEW:
        _, s, vt = np.linalg.svd(offsets, full_matrices=False)
    else:
        from sklearn.utils.extmath import randomized_svd

        _, s, vt = randomized_svd(offsets, MOST, n_iter=2, random_state=0)
    kept = max(1, int(np.count_nonzero(s > LEFT_OUT * s[0])))
    tails = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1])
    kept = min(kept, max(1, int(np.count_nonzero(tails > left_out * tails[0]))))
    return Components(centre, np.ascontiguousarray(vt[:kept].T))
