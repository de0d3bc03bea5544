"""Which eigenvectors are coordinates of their own, and which only harmonics of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.diffusion.diffusion_map import DiffusionMap

# Samples on which eigenvectors are regressed on each other: dense enough to resolve harmonics in three dimensions.
REGRESSION_SAMPLE = 4000
# Neighbours of each local linear regression: several times the number of coefficients for up to four coordinates.
REGRESSION_NEIGHBORS = 24
# Generator eigenvalues within this factor count as one block, whose basis is arbitrary.
BLOCK_RATIO = 1.05
# A unit direction of a block is new when at least this much of it (root mean square) remains unexplained.
UNEXPLAINED = 0.5


@dataclass(frozen=True, eq=False)
class IndependentCoordinates:
    """Coordinates built from eigenvectors, none of them a function of the others.

    Attributes
    ----------
    mixing : ndarray of shape (n_components, n_coordinates)
        ``embedding_ @ mixing`` are the coordinates; columns are orthonormal and mix only eigenvectors of one block of
        near-equal eigenvalues.
    components : ndarray of int64, shape (n_coordinates,)
        The eigenvector (0 is phi_1) that weighs most in each.
    unexplained : ndarray of shape (n_components,)
        Root-mean-square part of each eigenvector that the coordinates before its block leave unexplained; near 1 for
        a new direction, near 0 for a harmonic.
    """

    mixing: FloatArray
    components: IntArray
    unexplained: FloatArray


def independent_coordinates(diffusion_map: DiffusionMap, max_coordinates: int) -> IndependentCoordinates:
    """Choose eigenvectors that are not harmonics of the ones before (after Dsilva, Talmon, Coifman, Kevrekidis 2018).

    Block by block of near-equal eigenvalues, every direction is regressed on the coordinates of the blocks before
    (local linear fits, leaving the point itself out), and the directions with a large remainder become coordinates.
    Taking directions instead of single eigenvectors matters: in a block that holds a harmonic and a new coordinate
    (a 1 by 1/4 strip has both at 16 pi^2) the eigensolver returns an arbitrary mixture. Directions of one block are
    not regressed on each other: two observations would choose differently among them.

    Parameters
    ----------
    diffusion_map : DiffusionMap
        Fitted.
    max_coordinates : int
        Stop after this many.

    Returns
    -------
    IndependentCoordinates
    """
    rows = diffusion_map.kernel_.rows
    chosen_rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), REGRESSION_SAMPLE)).astype(np.int64)]
    phi = diffusion_map.embedding_[chosen_rows]
    phi = phi / np.sqrt((phi**2).mean(axis=0))
    n_components = phi.shape[1]
    unexplained = np.ones(n_components)
    columns: list[FloatArray] = []
    coordinates = np.empty((len(phi), 0))
    for block in _blocks(diffusion_map.plain_generator_eigenvalues_[1:]):
        basis = np.eye(n_components)[:, block]
        unexplained[block] = np.sqrt((_remainder(phi[:, block], coordinates) ** 2).mean(axis=0))
        remainder = _remainder(phi @ basis, coordinates)
        _, sizes, directions = np.linalg.svd(remainder, full_matrices=False)
        new = sizes / np.sqrt(len(phi)) >= UNEXPLAINED
        fresh = directions[new][: max_coordinates - len(columns)]
        columns += [basis @ _oriented(direction) for direction in fresh]
        coordinates = phi @ np.array(columns).T if columns else coordinates
    mixing = np.array(columns).T.reshape(n_components, len(columns))
    return IndependentCoordinates(mixing, np.abs(mixing).argmax(axis=0).astype(np.int64), unexplained)


def _blocks(generator_eigenvalues: FloatArray) -> list[list[int]]:
    """Runs of consecutive eigenvalues within BLOCK_RATIO of each other."""
    blocks = [[0]]
    for k in range(1, len(generator_eigenvalues)):
        if generator_eigenvalues[k] > BLOCK_RATIO * generator_eigenvalues[k - 1]:
            blocks.append([])
        blocks[-1].append(k)
    return blocks


def joint_blocks(eigenvalues_a: FloatArray, eigenvalues_b: FloatArray, ratio: float = BLOCK_RATIO) -> list[list[int]]:
    """Runs of consecutive generator eigenvalues that no gap of the given ratio separates on both sides at once.

    Within such a run the eigenfunctions of two samples of one domain agree up to an orthogonal matrix only.
    """
    count = min(len(eigenvalues_a), len(eigenvalues_b))
    least = np.minimum(*(x[1:count] / np.maximum(x[: count - 1], 1e-300) for x in (eigenvalues_a, eigenvalues_b)))
    borders = np.flatnonzero(least > ratio) + 1
    return [block.tolist() for block in np.split(np.arange(count), borders)]


def _oriented(direction: FloatArray) -> FloatArray:
    """Fix the sign of a unit vector: its largest entry is positive."""
    oriented: FloatArray = direction * np.sign(direction[np.argmax(np.abs(direction))])
    return oriented


def _remainder(values: FloatArray, coordinates: FloatArray) -> FloatArray:
    """What leave-one-out local linear regression on the coordinates leaves of the values, (N, v)."""
    if coordinates.shape[1] == 0:
        return values
    k = min(REGRESSION_NEIGHBORS, len(values) - 1)
    nodes = np.ascontiguousarray(coordinates)
    _, neighbors = PointTree(nodes).query(nodes, k + 1, workers=workers())
    # Drop the point itself; where ties put another first, dropping that one does as well.
    own = neighbors == np.arange(len(nodes))[:, None]
    own[~own.any(axis=1), -1] = True
    others = np.ascontiguousarray(neighbors[~own].reshape(len(nodes), k), dtype=np.int64)
    return values - core.local_polynomial_fit(nodes, nodes, np.ascontiguousarray(values), others, 1, 0)
