"""The report of an assessment: verdict, reason, evidence, and what it takes to reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.notebook import Shown
from diffeo.verdict.baselines import Baseline
from diffeo.verdict.error_bounds import Direction

if TYPE_CHECKING:
    import os

# Facts are numbers by name: deeper ones are a mistake, or a file that is meant to exhaust the stack.
MAX_DEPTH = 6
# Numbers of one fact, in lists: more belong in an array of its own.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, eq=False)
class Report(Shown):
    """Verdict on two observations of one domain; made by `diffeo.assess`.

    Attributes
    ----------
    verdict : {"equivalent", "a_to_b", "b_to_a", "not_equivalent", "undetermined"}
    reason : str
        One or two sentences: why, and what is lost where.
    forward, backward : Direction
        From A to B, and from B to A.
    margin, significance : float
    baselines : list of Baseline
        Plain methods on the same landmarks and held-out pairs.
    problems : list of str
        Those of the transformation's diagnostics; they do not change the verdict.
    n_landmarks : int
    coordinates : {"isometric", "diffusion", "regression", "pieces", "pairs"}
    embeddings : tuple of ndarray of shape (n_a, d_a), (n_b, d_b)
        Intrinsic coordinates of the samples of A, moved to B's, and of B (at most 2,000 of each, evenly spaced rows).
    held_out : tuple of ndarray of shape (H, d_a), (H, d_b)
        Intrinsic coordinates of the held-out pairs, as seen from A (moved to B's) and from B.
    spectra : tuple of ndarray
        Nontrivial generator eigenvalues of A and of B, per squared input unit.
    diagnostics : dict
        Numbers by name: stress, landmark residual, scale, near folds. What is stored is plain: numbers, texts and lists.
    settings : dict
        What reproduces it: versions, platform, arguments, sizes of both samples.
    rows : tuple of ndarray of int64, or None
        Which samples `embeddings` show, as rows of each observation; None: all of them.
    set_aside : ndarray of int64
        Rows of the held-out pairs that pairs next to them contradict, on A and on B; nothing was judged by them. All other
        arrays of held-out pairs are without them.
    verdict_with_all : str
        The verdict with these.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> a = diffeo.Observation.from_jacobians(x[:150], np.tile(np.eye(2), (150, 1, 1)))
    >>> b = diffeo.Observation.from_jacobians(2 * x[150:], np.tile(2 * np.eye(2), (150, 1, 1)))
    >>> marks = np.array([[0.1, 0.2], [0.8, 0.3], [0.4, 0.9]])
    >>> t = diffeo.match(a, b, landmarks=(marks, 2 * marks))
    >>> others = np.random.default_rng(1).random((12, 2))
    >>> report = diffeo.assess(t, (others, 2 * others))
    >>> report.verdict, report.would_decide
    ('undetermined', ['In both directions: bring 8 more held-out pairs, 20 at least.'])
    """

    verdict: str
    reason: str
    forward: Direction
    backward: Direction
    margin: float
    significance: float
    baselines: list[Baseline]
    problems: list[str]
    n_landmarks: int
    coordinates: str
    embeddings: tuple[FloatArray, FloatArray] = field(repr=False)
    held_out: tuple[FloatArray, FloatArray] = field(repr=False)
    spectra: tuple[FloatArray, FloatArray] = field(repr=False)
    diagnostics: dict[str, Any] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    rows: tuple[IntArray, IntArray] | None = field(default=None, repr=False)
    set_aside: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)
    verdict_with_all: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("diagnostics", "settings"):
            object.__setattr__(self, name, plain(getattr(self, name), name))
        if not self.verdict_with_all:
            object.__setattr__(self, "verdict_with_all", self.verdict)

    def __repr__(self) -> str:
        ways = ("A -> B", self.forward), ("B -> A", self.backward)
        said = "; ".join(f"{name} {100 * way.error:.2g} %, {way.status}" for name, way in ways)
        problems = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        return f"Report({self.verdict}: {said}; {problems})"

    @property
    def judged(self) -> IntArray:
        """Rows, among the held-out pairs given, of those that were judged by, (H,)."""
        return np.setdiff1d(np.arange(len(self.forward.true) + len(self.set_aside)), self.set_aside)

    @property
    def would_decide(self) -> list[str]:
        """What would settle the directions that are undetermined, as things to do; empty where none is."""
        from diffeo.verdict.sentences import what_would_decide

        return what_would_decide(self)

    @property
    def expected_error(self) -> tuple[float | None, float | None]:
        """What the map was expected to be wrong by before any pair was held out: from A to B, and back; None if not known."""
        found = self.diagnostics.get("expected_error")
        return (found[0], found[1]) if isinstance(found, list) and len(found) == 2 else (None, None)

    def summary(self) -> str:
        """The report for a terminal: verdict and reason, both errors, baselines, problems; at most 30 lines of 100."""
        from diffeo.report.text import summary

        return summary(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page: no network, no scripts, made to be read on screen, on a phone and on paper."""
        from diffeo.files.saved import write_text
        from diffeo.report.page import report_page

        write_text(report_page(self), path)

    def to_json(self, path: str | os.PathLike[str], *, arrays: bool = False) -> None:
        """Write all numbers as JSON (RFC 8259: what is not finite is null).

        Parameters
        ----------
        path : str or path-like
        arrays : bool
            Also write the arrays behind the pictures: embeddings, held-out pairs, predictions, rows of losses.
        """
        import json

        from diffeo.files.saved import write_text
        from diffeo.report.text import as_json

        text = json.dumps(as_json(self, arrays=arrays), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(text + "\n", path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_report

        save_report(self, path)


def plain(value: Any, name: str, depth: int = MAX_DEPTH) -> Any:
    """The value in numbers, texts, lists and dictionaries only.

    Raises
    ------
    DataTypeError
        For anything that has no such form.
    InputError
        For what is nested too deeply or too long to be a fact.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
        return plain(value, name, depth)
    if not isinstance(value, (dict, list, tuple)):
        raise errors.DataTypeError(
            f"{name} holds {type(value).__name__}; numbers, texts, lists and dictionaries are facts"
        )
    if depth == 0 or len(value) > MAX_ENTRIES:
        raise errors.InputError(
            f"{name} holds {len(value)} entries at a depth where {MAX_ENTRIES}, {MAX_DEPTH} deep, are the most"
        )
    if isinstance(value, dict):
        return {str(key): plain(entry, name, depth - 1) for key, entry in value.items()}
    return [plain(entry, name, depth - 1) for entry in value]
