"""Reports made by hand, one of each verdict: what `assess` gives, without the work."""

from __future__ import annotations

import numpy as np
from diffeo.verdict.baselines import Baseline
from diffeo.verdict.error_bounds import Direction, relative_error
from diffeo.verdict.lost_information import Loss
from diffeo.verdict.report import Report
from diffeo.verdict.shown_loss import SHOWN, Evidence

MARGIN = 0.05
# Errors of both directions and their states, and what is lost on the way.
CASES = {
    "equivalent": ((0.004, "holds"), (0.0061, "holds"), None),
    "a_to_b": ((0.003, "holds"), (0.58, "fails"), "collapse"),
    "b_to_a": ((0.21, "fails"), (0.012, "holds"), "fold"),
    "not_equivalent": ((0.7, "fails"), (0.31, "fails"), "both"),
    "undetermined": ((0.4, "undetermined"), (0.02, "holds"), None),
}
VERDICTS = list(CASES)


def waves(x, m, seed):
    """m smooth measurements of the coordinates."""
    rng = np.random.default_rng(seed)
    return np.sin(x @ rng.normal(size=(x.shape[1], m)) * 2.0 + rng.uniform(0, 6, m)) * np.linspace(1, 3, m)


def evidence_of(kind):
    """Evidence of this kind, as 100 twins may give it."""
    shown = kind in SHOWN
    texts = {
        True: "Loss is shown: of 100 pairs, 40 are far apart.",
        False: "No loss is shown: of 100 pairs, 3 are far apart.",
    }
    pairs = np.array([[3, 17], [5, 250]])
    torn = 40 if shown else 3
    return Evidence(shown, kind, 100, torn, 0.3 * shown, 0.4 * shown, np.array([4, 21]), pairs, texts[shown])


def direction(true, error, status, loss, seed):
    """A direction whose prediction has exactly this relative error."""
    noise = np.random.default_rng(seed).normal(size=true.shape)
    predicted = true + noise * error / relative_error(true + noise, true)
    half = {"holds": 0.15, "fails": 0.2, "undetermined": 0.4}[status] * error
    found = evidence_of("pairs" if status == "fails" else "none")
    return Direction(error, error - half, error + half, status, "the transformation", true, predicted, loss, found)


def loss_of(kind, samples):
    """What the other side lost: a half of the domain along the first axis, or two folded halves."""
    dim = samples.shape[1]
    rows = np.flatnonzero(samples[:, 0] > 0.1).astype(np.int64)
    axis = np.eye(dim)[-1] if kind == "collapse" else np.eye(dim)[0]
    share = len(rows) / len(samples)
    texts = {
        "collapse": f"In {share:.0%} of the domain the other side gives one value along a whole line.",
        "fold": f"The other side folds {share:.0%} of the domain: points on both sides of a crease look the same to it.",
    }
    pairs = np.column_stack([rows[:5], rows[-5:]])
    return Loss(kind, share, rows, axis, samples[rows].mean(axis=0), 0.41, pairs, texts[kind])


def report(verdict="equivalent", dim=2, n=900, pairs=240, seed=0, **change):
    """A report with this verdict on a cube of this dimension."""
    (forward, state), (backward, state_back), lost = CASES[verdict]
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(-0.5, 0.5, (n, dim)) * np.linspace(1.6, 1.0, dim) for _ in range(2))
    at = rng.uniform(-0.5, 0.5, (pairs, dim)) * np.linspace(1.6, 1.0, dim)
    spots = [at + 0.3 * e * rng.normal(size=at.shape) * 0.1 for e in (forward, backward)]
    kinds = {"both": ("fold", "collapse")}.get(lost, (lost, lost))
    losses = [
        loss_of(kind, samples) if kind and status == "fails" else None
        for kind, samples, status in ((kinds[0], b, state), (kinds[1], a, state_back))
    ]
    order = np.sort(np.add.outer(np.arange(4) ** 2, np.arange(4) ** 2).ravel())[1:9]
    # fmt: off
    parts = {
        "verdict": verdict,
        "reason": "Both upper bounds are under the margin of 0.05."
        if verdict == "equivalent"
        else "The upper bound from A to B is under the margin; from B to A the lower bound is over it: B ignores a direction.",
        "forward": direction(waves(at, 6, 1), forward, state, losses[0], 2),
        "backward": direction(waves(at, 5, 3), backward, state_back, losses[1], 4),
        "margin": MARGIN, "significance": 0.05,
        "baselines": [
            Baseline("affine", 0.31, 0.28, "ridge 1e-06"), Baseline("Procrustes", 0.62, 0.7), Baseline("CCA", 0.33, 0.3),
            Baseline("Gaussian process", 0.08, 0.11), Baseline("the paper's method", None, None, "did not connect"),
        ],
        "problems": [] if verdict == "equivalent" else ["on side B 3 of 900 samples lie near a fold: add neurons"],
        "n_landmarks": 10, "coordinates": "isometric",
        "embeddings": (a, b), "held_out": (spots[0], spots[1]),
        "spectra": (np.pi**2 * order * (1 + 0.01 * rng.normal(size=8)), np.pi**2 * order * (1 + 0.01 * rng.normal(size=8))),
        "diagnostics": {"stress": [0.0003, 0.0004], "landmark_residual": 0.0012, "scale": 1.0003, "near_folds": [0, 3]},
        "settings": {
            "diffeo": "0.1.0", "numpy": "2.0.0", "python": "3.11.7", "platform": "Linux x86_64", "n_a": n, "n_b": n,
            "arguments": {"margin": 0.05, "significance": 0.05, "random_state": 0},
        },
    }
    # fmt: on
    return Report(**parts | change)
