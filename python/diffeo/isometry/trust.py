"""Is a layout a chart, and when does coordinates="auto" leave it? Every threshold of that question, in one ladder."""

from __future__ import annotations

# Relative stress of a layout, sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2), in rising order. Where a chart exists,
# 1e-4 to 5e-3 were measured; where false edges stayed in, 0.02 to 0.07.

# Above this the graph is searched anew in the layout, and edges are weighed by how far they agree.
SECOND_LOOK = 2e-4
# A layout that had not settled is a problem above this.
UNSETTLED = 3e-4
# Above this the layout is compared with one from the local frames. A registration of two samples, whose stress is between
# lengths on both sides, has come with maps that are wrong by a fraction of a percent or more.
DOUBTFUL = 0.004
# Above this, maps have been wrong by a percent or more, and a problem says so; below 0.001 all is well.
SUSPICIOUS = 0.012
# Above this the estimator warns: no isometric coordinates.
DISTORTED = 0.015
# Above this a layout that has not settled is folded, or a chart does not exist, and Gauss-Newton steps do no good; nor is
# it one to start others from.
FOLDED = 0.02
# Above this a problem is named whatever else is known: a first-order answer to so large misfits says little.
STRAINED = 0.03
# Beyond this there is no isometric chart, and no isometry between two samples; other coordinates are taken.
NOT_ISOMETRIC = 0.05
# Noisy lengths disagree by their own errors, on both sides of a registration: this many times the error of A's are still
# an isometry, ...
NOISE_FACTOR = 3.0
# ... up to here.
NOISY_ISOMETRIC = 0.2

# Above this a layout whose misfits are everywhere, the median at least that share of the stress, is of rough lengths, if
# the lengths of an edge from its two ends differ by as much: derivatives that change from sample to sample without rule.
# (Beside a cliff the median is a hundredth of the stress; where a domain is curved, both ends agree.)
ROUGH, EVERYWHERE = 0.02, 0.1
# Stress per median difference of both ends that is no more than such lengths have: 1.1 was measured, outliers count.
ROUGH_FACTOR = 1.5

# Share of the samples that lie on others which are not near them: below 0.01 where a layout is one to one, 0.3 to 0.5
# where a domain is flattened.

# Above this a layout is looked at again, and a problem says so.
OVERLAPPING = 0.01
# Above this a layout lies in two sheets: it is not one to one, the domain is closed.
SHEETS = 0.1

# Relative error of a layout of suspicious stress that its misfits may stand for (`stress.moved_by_misfits`), above which a
# problem says so. Of fifteen layouts of that stress, ones wrong by 1 % and more had 0.0105 to 0.031 (0.004 once, at a stress of
# 0.031), ones right to 0.4 % 0.0065 and less (0.011 once).
MOVED = 0.007

# The same, up to which a layout whose graph leads over cliffs stands; beyond, it competes with one of the usual graph. 0.002 to
# 0.023 were measured where it was right to 1.2 %, 0.017 where it was wrong by 5 %, and 0.077 where it was wrong altogether.
FIRM = 0.03
# The same, up to which such a layout needs no second one, whose edges are weighed in another way, to see whether wrong lengths
# hold it. Both are the same if they differ by no more than that share of their size: 0.003 to 0.008 were measured of layouts
# that were right to 1.5 %, 0.02 of one that was not firm either, and 3 of one that was torn.
SURE, SAME = 0.015, 0.05

# Up to so many dimensions neighbours are near, beside the domain; beyond, graphs want more edges a sample, whose lengths miss
# more until they know the trend of the layout (0.004 was measured in eight dimensions where the inputs were off by 1 %).
FEW_DIMENSIONS = 3

# Relative error of a layout that a part held by few edges may have, beyond which a problem says so.
LOOSE = 0.004
# From here on the part may be mirrored, or turned away.
TURNED = 1.0

# Samples in small pieces of a graph, up to this share in all, are strays, which a layout may find a place for; ...
STRAYS = 0.01
# ... and a piece that holds at least this share gets a chart of its own: what is left out of it is said. Below, no piece does.
MOST = 2.0 / 3.0
# Pieces below this share of the samples are crumbs: strays, or what a fold sheds.
PIECE = 0.02

# Relative error of an aligned map per squared relative stress of its charts: on forty pairs of trained networks within a
# factor of about 3 wherever the stress exceeds 0.002, and below what landmarks show where it is small.
DOUBT_PER_SQUARED_STRESS = 100.0


def is_doubtful(stress: float, overlap: float, settled: bool, dim: int) -> bool:
    """Whether a layout in `dim` dimensions is to be compared with one that was found in another way."""
    if dim > FEW_DIMENSIONS:
        return stress > SUSPICIOUS or overlap > OVERLAPPING
    return stress > DOUBTFUL or overlap > OVERLAPPING or not settled


def is_distorted(stress: float, overlap: float, length_noise: float) -> bool:
    """Whether a layout fails to keep lengths beyond what their noise explains, or lies in sheets."""
    return not (stress <= max(DISTORTED, length_noise) and overlap <= SHEETS)


def is_suspicious(stress: float, length_noise: float) -> bool:
    """Whether lengths are kept worse, beyond what their noise explains, than where maps are right to a percent."""
    return stress > max(SUSPICIOUS, length_noise)


def is_strained(stress: float, length_noise: float, moved: float) -> bool:
    """Whether lengths are kept so badly that the coordinates may be wrong by a percent, beyond what their noise explains."""
    return is_suspicious(stress, length_noise) and (stress > STRAINED or moved > MOVED)


def is_sure(moved: float) -> bool:
    """Whether what its lengths contradict hardly moves a layout that leads over cliffs."""
    return moved <= SURE


def is_firm(overlap: float, moved: float) -> bool:
    """Whether a layout that leads over cliffs lies in one sheet, and is hardly moved by what its lengths contradict."""
    return overlap <= OVERLAPPING and moved <= FIRM


def keeps_lengths(stress: float, length_noise: float) -> bool:
    """Whether a layout is isometric, as far as the noise of the lengths allows."""
    return stress <= max(NOT_ISOMETRIC, length_noise)


def is_rough(stress: float, misfit: float, roughness: float) -> bool:
    """Whether a layout of this stress and median misfit is of lengths that are rough everywhere."""
    return stress > ROUGH and EVERYWHERE * stress <= misfit <= roughness


def explained_by_roughness(stress: float, roughness: float) -> bool:
    """Whether rough lengths explain a stress."""
    return stress <= min(ROUGH_FACTOR * roughness, NOISY_ISOMETRIC)


def is_one_to_one(overlap: float) -> bool:
    """Whether a layout lies in one sheet."""
    return overlap <= SHEETS


def is_chart(stress: float, overlap: float, length_noise: float) -> bool:
    """Whether a layout keeps lengths and is one to one."""
    return keeps_lengths(stress, length_noise) and is_one_to_one(overlap)


def is_isometry(stress: float, length_noise: float) -> bool:
    """Whether a registration of two samples, both of noisy lengths, keeps them."""
    return not stress > max(NOT_ISOMETRIC, min(NOISE_FACTOR * length_noise, NOISY_ISOMETRIC))


def too_many_strays(count: int, n_samples: int) -> bool:
    """Whether so many samples outside of the largest piece of a graph are too many to leave out."""
    return count > STRAYS * n_samples


def holds_most(count: int, n_samples: int) -> bool:
    """Whether a piece of so many samples may stand for the whole sample, the others named."""
    return count >= MOST * n_samples


def doubt_of_stress(*stresses: float) -> float:
    """Relative error to suspect of an aligned map from the relative stress of its charts; at most 1."""
    return min(1.0, DOUBT_PER_SQUARED_STRESS * max(stresses) ** 2)
