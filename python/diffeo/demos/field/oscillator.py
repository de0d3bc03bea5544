"""An oscillator, instruments that see its state in coordinates of their own, and networks that learned its velocity there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.training import fit, import_torch

torch = import_torch()
Module: Any = torch.nn.Module

# Rayleigh's bowed string: position q, velocity p, q' = p, p' = -q + MU (p - 4/3 p^3); the limit cycle has radius near 1.
# The Jacobian of this map (q, p) -> (q', p') has determinant 1 everywhere, and p and then q follow from it: one to one.
MU = 0.5
# Corners of the sampled states: around the limit cycle, and like itself in no mirror and after no turn.
REGION = np.array([[-1.25, -0.95], [1.8, -1.4], [1.2, 1.25], [-1.1, 1.15]])
# States that a network learns from, and others that say how well it did.
LEARNED_FROM, TESTED_ON = 2000, 2000
# Trajectories: how long, and from which states.
TIME = 10.0
STARTS = np.array([[0.4, 0.3], [1.4, -0.2], [-1.1, 0.4]])
# Runge-Kutta steps per unit of time: the error of the integration is far below that of any network.
STEPS_PER_TIME = 50


def velocity(x: Any) -> Any:
    """Velocity (..., 2) at states (..., 2), of a tensor or an array."""
    q, p = x[..., 0], x[..., 1]
    stack = torch.stack if isinstance(x, torch.Tensor) else np.stack
    return stack([p, -q + MU * (p - 4.0 / 3.0 * p**3)], -1)


def inside(x: FloatArray) -> Any:
    """Which states (n, 2) lie in the region: left of every side of the convex polygon."""
    side = np.roll(REGION, -1, axis=0) - REGION
    away = x[:, None] - REGION
    return (side[:, 0] * away[..., 1] - side[:, 1] * away[..., 0] >= 0).all(axis=1)


def states(n: int, rng: np.random.Generator) -> FloatArray:
    """Uniform states (n, 2) of the region."""
    low, high = REGION.min(axis=0), REGION.max(axis=0)
    drawn = rng.uniform(low, high, (3 * n + 30, 2))
    found: FloatArray = drawn[inside(drawn)][:n]
    return found


def border(n: int) -> FloatArray:
    """The region's border as a closed polygon (4 n + 1, 2) with n points a side."""
    along = np.linspace(0.0, 1.0, n, endpoint=False)[:, None]
    sides = [a + along * (b - a) for a, b in zip(REGION, np.roll(REGION, -1, axis=0), strict=True)]
    return np.vstack([*sides, REGION[:1]])


class Instrument(Module):  # type: ignore[misc]
    """Own coordinates of the state: two shears by sines, then a linear map; each step is undone exactly by `inverse`.

    Parameters
    ----------
    first, second : tuple of float
        Amplitude a and frequency b of the shears q + a sin(b p) and p + a sin(b q).
    angle : float
        Turn after them, in radians.
    units : tuple of float
        Factors of the two coordinates at last; a negative one mirrors.
    """

    def __init__(
        self, first: tuple[float, float], second: tuple[float, float], angle: float, units: tuple[float, float]
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self.register_buffer("linear", torch.from_numpy(np.diag(units) @ turn))

    def forward(self, x: Any) -> Any:
        """Own coordinates (..., 2) of states (..., 2)."""
        q = x[..., 0] + self.first[0] * torch.sin(self.first[1] * x[..., 1])
        p = x[..., 1] + self.second[0] * torch.sin(self.second[1] * q)
        return torch.stack([q, p], -1) @ self.linear.T

    def inverse(self, z: Any) -> Any:
        """States (..., 2) of own coordinates (..., 2)."""
        sheared = z @ torch.linalg.inv(self.linear).T
        p = sheared[..., 1] - self.second[0] * torch.sin(self.second[1] * sheared[..., 0])
        return torch.stack([sheared[..., 0] - self.first[0] * torch.sin(self.first[1] * p), p], -1)

    def velocity(self, x: Any) -> Any:
        """Velocity in own coordinates, Dg(x) f(x), at states x (..., 2)."""
        return torch.func.jvp(self, (x,), (velocity(x),))[1]


@dataclass(frozen=True)
class Learned:
    """A network that learned the oscillator in the coordinates of its instrument.

    Attributes
    ----------
    name : str
    instrument : Instrument
        From states to own coordinates.
    network : torch.nn.Module
        From own coordinates to the velocity in them.
    error : float
        Of the network on states that it did not learn from, relative to the spread of the velocities.
    """

    name: str
    instrument: Any
    network: Any
    error: float

    @property
    def observed(self) -> Any:
        """What diffeo sees: the network behind its instrument, from the common state to velocities."""
        return torch.nn.Sequential(self.instrument, self.network).eval()

    def coordinates(self, x: FloatArray) -> FloatArray:
        """Own coordinates (n, 2) of states (n, 2)."""
        return _evaluate(self.instrument, x)

    def states(self, z: FloatArray) -> FloatArray:
        """States (n, 2) of own coordinates (n, 2)."""
        return _evaluate(self.instrument.inverse, z)

    def field(self, z: FloatArray) -> FloatArray:
        """The velocity (n, 2) that the network puts out at own coordinates (n, 2)."""
        return _evaluate(self.network, z)

    def trajectories(self, z: FloatArray, time: float) -> FloatArray:
        """The network's field integrated from own coordinates (k, 2): (steps + 1, k, 2), classical Runge-Kutta."""
        return integrate(self.field, z, time)

    def where(self, velocities: FloatArray, known: FloatArray, steps: int = 8) -> FloatArray:
        """Own coordinates (n, 2) at which the network puts out given velocities (n, 2).

        Newton's method on the network itself, from the coordinates, of the known ones (k, 2), with the nearest velocity.
        """
        from diffeo._support.point_tree import PointTree

        z = torch.from_numpy(known[PointTree(self.field(known)).query(velocities)[1]])
        target, slope = torch.from_numpy(velocities), torch.func.vmap(torch.func.jacfwd(self.network))
        with torch.no_grad():
            for _ in range(steps):
                z = z - torch.linalg.solve(slope(z), self.network(z) - target)
        found: FloatArray = z.numpy()
        return found


def learn(
    name: str, instrument: Instrument, widths: Sequence[int], activation: str, *, seed: int, steps: int, polish: int
) -> Learned:
    """Train a perceptron on velocities at own coordinates of its own random states."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(states(LEARNED_FROM + TESTED_ON, rng))
    z, w = instrument(x), instrument.velocity(x)
    data = (z[:LEARNED_FROM], w[:LEARNED_FROM])
    network = fit(2, widths, activation, data, seed=seed, steps=steps, polish=polish, name=name)
    truth = w[LEARNED_FROM:].numpy()
    missed = _evaluate(network, z[LEARNED_FROM:].numpy()) - truth
    return Learned(name, instrument, network, float(np.linalg.norm(missed) / np.linalg.norm(truth - truth.mean(0))))


def integrate(field: Callable[[FloatArray], FloatArray], start: FloatArray, time: float) -> FloatArray:
    """Trajectories (steps + 1, k, 2) of a field from k starts, by the classical Runge-Kutta method."""
    steps = max(1, round(abs(time) * STEPS_PER_TIME))
    h, z = time / steps, np.array(start)
    found = [z]
    for _ in range(steps):
        k1 = field(z)
        k2 = field(z + 0.5 * h * k1)
        k3 = field(z + 0.5 * h * k2)
        k4 = field(z + h * k3)
        z = z + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        found.append(z)
    return np.array(found)


@dataclass(frozen=True)
class Moved:
    """Trajectories of both fields from the same states, and A's pushed to B; each (steps + 1, k, 2).

    Attributes
    ----------
    own_a, own_b : ndarray
        Of A's field in A's coordinates, and of B's in B's.
    pushed : ndarray
        A's, in B's coordinates.
    """

    own_a: FloatArray
    own_b: FloatArray
    pushed: FloatArray

    def distances(self) -> FloatArray:
        """Distance (steps + 1, k) of pushed and own, over the root mean square deviation of B's own from their mean."""
        spread = np.sqrt(self.own_b.reshape(-1, 2).var(axis=0).sum())
        found: FloatArray = np.linalg.norm(self.pushed - self.own_b, axis=2) / spread
        return found


@dataclass(frozen=True)
class OneToOne:
    """Whether outputs embed the state: what a sheet of states becomes.

    A map whose Jacobian determinant has one sign on a region without holes, and which is one to one on the border, is one to
    one inside.

    Attributes
    ----------
    determinants : tuple of float
        Smallest and largest determinant of the Jacobian over the samples.
    stretches : tuple of float
        Smallest and largest singular value.
    crossings : int
        Crossings of the image of the border with itself.
    """

    determinants: tuple[float, float]
    stretches: tuple[float, float]
    crossings: int

    @property
    def holds(self) -> bool:
        """Determinants of one sign, and no crossing."""
        return self.determinants[0] * self.determinants[1] > 0 and self.crossings == 0


def one_to_one(jacobians: FloatArray, image_of_border: FloatArray) -> OneToOne:
    """Check Jacobians (n, 2, 2) and the image (k, 2) of the closed border."""
    determinants, stretches = np.linalg.det(jacobians), np.linalg.svd(jacobians, compute_uv=False)
    return OneToOne(
        (float(determinants.min()), float(determinants.max())),
        (float(stretches.min()), float(stretches.max())),
        _crossings(image_of_border),
    )


def _crossings(closed: FloatArray) -> int:
    """Pairs of segments, not neighbours, of a closed polygon that cross: each has its ends on both sides of the other."""
    start, end = closed[:-1], closed[1:]

    def side(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
        u, v = b - a, c - a
        found: FloatArray = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
        return found

    a, b, c, d = start[:, None], end[:, None], start[None], end[None]
    cross = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    # The last segment is a neighbour of the first.
    cross[0, -1] = False
    return int(np.triu(cross, 2).sum())


def _evaluate(module: Any, x: FloatArray) -> FloatArray:
    with torch.no_grad():
        values: FloatArray = module(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return values
