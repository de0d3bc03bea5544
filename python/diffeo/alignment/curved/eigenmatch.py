"""Samples of two manifolds matched by their eigenfunctions: by blocks from landmarks, then on the whole sample."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.alignment.linear import Alignment

# Rounds of matching samples and eigenfunctions in turn, with the first blocks and with all of them.
ROUNDS = 2
# Landmarks span a direction of a block when they reach this share of its widest: eigenfunctions are right to a few
# percent.
SPANNED = 0.1
# Candidates that are as good as the best up to this factor are ties.
TIE = 1.2
# Images that differ by less than this relatively are one candidate: those of different isometries differ by about one.
SAME = 0.3
# More undetermined reflections than this ask for more landmarks, not for a longer list.
MAX_REFLECTIONS = 4


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Samples of A matched with samples of B.

    Attributes
    ----------
    matched : ndarray of int64, shape (n_a,)
        Nearest sample of B for every sample of A.
    image : ndarray of shape (n_a, k)
        Eigenfunctions of B at A's samples, as the linear map of A's own eigenfunctions says.
    misfit : float
        Root-mean-square distance from `image` to the eigenfunctions of the matched samples, relative to their size,
        together with that of the landmarks.
    """

    matched: IntArray
    image: FloatArray
    misfit: float


def correspondences(
    samples_a: FloatArray,
    samples_b: FloatArray,
    landmarks_a: FloatArray,
    landmarks_b: FloatArray,
    partitions: list[list[list[int]]],
    n_leading: int,
) -> list[Correspondence]:
    """Match samples by eigenfunctions, from landmarks that fix the leading blocks.

    Eigenfunctions of one domain agree on both sides up to an orthogonal matrix within each block of near-equal
    eigenvalues, found by Procrustes on the landmarks (Schoenemann 1966). From there samples are matched by mapped
    eigenfunctions and eigenfunctions mapped by matched samples in turn, with more and more blocks (spectral
    upsampling: Melzi, Ren, Rodola, Sharma, Wonka, Ovsjanikov 2019).

    Parameters
    ----------
    samples_a, samples_b : ndarray of shape (n_a, k), (n_b, k)
        Eigenfunctions at the samples.
    landmarks_a, landmarks_b : ndarray of shape (L, k)
        Eigenfunctions at the same L inputs.
    partitions : list of list of list of int
        Ways to see the eigenfunctions as blocks (`diffeo.diffusion.independent.joint_blocks`): sampling splits eigenvalues that
        are equal, and distinct ones come close. Whichever matches best is right.
    n_leading : int
        The landmarks fix blocks until at least this many eigenfunctions are aligned.

    Returns
    -------
    list of Correspondence
        Best first. More than one where the landmarks leave a reflection open and the samples cannot tell.

    Raises
    ------
    LandmarkError
        The landmarks leave a block open by more than a reflection, in all partitions.
    """
    found: list[Correspondence] = []
    tried: list[list[list[int]]] = []
    refusal = None
    for blocks in partitions:
        leading = list(itertools.takewhile(lambda block: block[0] < n_leading, blocks))
        if leading in tried:
            continue
        tried.append(leading)
        ends = [block[-1] + 1 for block in blocks]
        try:
            starts = _starts(landmarks_a, landmarks_b, leading)
        except errors.LandmarkError as error:
            refusal = error
            continue
        found += [_upsampled(samples_a, samples_b, landmarks_a, landmarks_b, linear, ends) for linear in starts]
    if refusal is not None and not found:
        raise refusal
    found.sort(key=lambda correspondence: correspondence.misfit)
    distinct: list[Correspondence] = []
    for one in found:
        # Different starts may come to the same end.
        news = all(_difference(one.image, other.image) > SAME for other in distinct)
        if news and one.misfit <= TIE * found[0].misfit:
            distinct.append(one)
    return distinct


def _starts(landmarks_a: FloatArray, landmarks_b: FloatArray, leading: list[list[int]]) -> list[FloatArray]:
    """Block-diagonal orthogonal maps that the landmarks allow."""
    options = [_block_maps(landmarks_a[:, block], landmarks_b[:, block], block) for block in leading]
    if sum(len(maps) > 1 for maps in options) > MAX_REFLECTIONS:
        raise errors.LandmarkError(
            f"the {len(landmarks_a)} landmarks leave the signs of more than {MAX_REFLECTIONS} coordinates open; add some, "
            "away from the symmetry planes of the domain"
        )
    starts = []
    for maps in itertools.product(*options):
        linear = np.zeros((leading[-1][-1] + 1,) * 2)
        for block, part in zip(leading, maps, strict=True):
            linear[np.ix_(block, block)] = part
        starts.append(linear)
    return starts


def sample_alignment(p: FloatArray, q: FloatArray, landmarks_p: FloatArray, landmarks_q: FloatArray) -> Alignment:
    """Affine map between the coordinates (n, c) of matched samples, by least squares on all of them.

    The landmarks take no part in it: their misfit is a test, so that it stands for the left-out one as well.
    """
    design = np.column_stack([p, np.ones(len(p))])
    solution = np.asarray(np.linalg.lstsq(design, q, rcond=None)[0], dtype=np.float64)
    missed = np.linalg.norm(landmarks_p @ solution[:-1] + solution[-1] - landmarks_q) / np.linalg.norm(landmarks_q)
    scale = float(np.linalg.norm(q) / np.linalg.norm(p))
    return Alignment(solution[:-1], solution[-1], "affine", float(missed), float(missed), scale)


def _difference(p: FloatArray, q: FloatArray) -> float:
    return float(np.linalg.norm(p - q) / np.linalg.norm(q))


def _block_maps(p: FloatArray, q: FloatArray, block: list[int]) -> list[FloatArray]:
    """Orthogonal maps that take the landmarks p (L, s) of one block to q; two where a reflection stays open."""
    u, values, vt = np.linalg.svd(p.T @ q)
    rank = int((np.sqrt(values) > SPANNED * max(np.sqrt(values[0]), np.sqrt(len(p)) * SPANNED)).sum())
    if rank < len(block) - 1:
        raise errors.LandmarkError(
            f"eigenfunctions {block[0] + 1} to {block[-1] + 1} have near-equal eigenvalues and the {len(p)} landmarks span "
            f"only {rank} of their {len(block)} directions; {len(block)} landmarks in general position fix them"
        )
    if rank == len(block):
        return [u @ vt]
    mirror = np.ones(len(block))
    mirror[-1] = -1.0
    return [u @ vt, (u * mirror) @ vt]


def _upsampled(
    samples_a: FloatArray,
    samples_b: FloatArray,
    landmarks_a: FloatArray,
    landmarks_b: FloatArray,
    linear: FloatArray,
    ends: list[int],
) -> Correspondence:
    """Matching in turn by 1, 2, ... more blocks, starting from a map of the leading ones."""
    size = len(linear)
    sizes = [size] * ROUNDS + [end for end in ends if end > size]
    sizes += [sizes[-1]] * ROUNDS
    for after in sizes:
        matched = PointTree(samples_b[:, :size]).query(samples_a[:, :size] @ linear, workers=workers())[1]
        fit = np.linalg.lstsq(samples_a[:, :after], samples_b[matched, :after], rcond=None)[0]
        linear = np.asarray(fit, dtype=np.float64)
        size = after
    image = samples_a[:, :size] @ linear
    matched = PointTree(samples_b[:, :size]).query(image, workers=workers())[1]
    off = np.linalg.norm(image - samples_b[matched, :size]) ** 2 / np.linalg.norm(samples_b[:, :size]) ** 2
    known = landmarks_b[:, :size]
    off += np.linalg.norm(landmarks_a[:, :size] @ linear - known) ** 2 / np.linalg.norm(known) ** 2
    return Correspondence(matched.astype(np.int64), image, float(np.sqrt(off)))
