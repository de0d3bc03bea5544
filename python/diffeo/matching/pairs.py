"""What the user says of both sides together, parsed once: pairs of common inputs, and observables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, dense, float_array, index_array
from diffeo._support.wording import rows_text
from diffeo.charts.coordinates import Marks
from diffeo.observation.observation import Observation
from diffeo.observation.selection import chosen_rows

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, eq=False)
class Pairs:
    """What both sides measure at common inputs: landmarks, or held-out pairs.

    `diffeo.match` and `diffeo.assess` also take plain tuples ``(points_a, points_b)`` and arrays of row numbers. What this
    class adds are derivatives, from which `diffeo.match_pairs` learns maps; identifiers, which make sure that both sides are in
    one order; and parts: ``pairs[rows]``. `diffeo.measure_pairs` makes it from two networks.

    Parameters
    ----------
    points_a : array_like of shape (L, m_a)
        Measurements of A, as `Observation.measure` gives them.
    points_b : array_like of shape (L, m_b)
        Measurements of B at the same inputs, in the same order.
    jacobians_a : array_like of shape (L, m_a, p), optional
        Derivatives of A's measurements by p coordinates of the input, or along p orthonormal tangents of each input.
    jacobians_b : array_like of shape (L, m_b, p), optional
        The same of B, by the same coordinates or along the same tangents. Both or none.
    ids_a, ids_b : array_like of shape (L,), optional
        Which input each row belongs to, as each side knows it: whole numbers or texts, each once. Both or none.

    Attributes
    ----------
    rows : ndarray of shape (L, 2), int64, or None
        Rows of the two observations, of pairs that were given as such (`from_rows`).
    ids : ndarray of shape (L,) or None
        The identifiers on which both sides agree.

    Raises
    ------
    LandmarkError
        Identifiers that do not agree (the message says how many, and where), repeat, or are given for one side only; and
        derivatives of one side only.
    ShapeError, NonFiniteError, DataTypeError
        Measurements that do not fit.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((20, 2))
    >>> pairs = diffeo.Pairs(x, 2 * x, ids_a=range(20), ids_b=range(20))
    >>> len(pairs), len(pairs[:5])
    (20, 5)
    """

    points_a: FloatArray
    points_b: FloatArray
    jacobians_a: FloatArray | None = field(default=None, repr=False)
    jacobians_b: FloatArray | None = field(default=None, repr=False)
    ids_a: Any = field(default=None, kw_only=True, repr=False)
    ids_b: Any = field(default=None, kw_only=True, repr=False)
    rows: IntArray | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        a = float_array(self.points_a, "points_a", 2, axes="(L, m_a)")
        b = float_array(self.points_b, "points_b", 2, shape=(len(a), None), axes="(L, m_b)")
        object.__setattr__(self, "points_a", a)
        object.__setattr__(self, "points_b", b)
        self._check_derivatives()
        ids = _agreed(self.ids_a, self.ids_b, len(a))
        object.__setattr__(self, "ids_a", ids)
        object.__setattr__(self, "ids_b", ids)

    def _check_derivatives(self) -> None:
        if (self.jacobians_a is None) != (self.jacobians_b is None):
            raise errors.LandmarkError(
                "derivatives are known of one side only: give jacobians_a and jacobians_b, or neither"
            )
        if self.jacobians_a is None:
            return
        a = float_array(self.jacobians_a, "jacobians_a", 3, shape=(*self.points_a.shape, None), axes="(L, m_a, p)")
        shape = (*self.points_b.shape, a.shape[2])
        b = float_array(self.jacobians_b, "jacobians_b", 3, shape=shape, axes="(L, m_b, p)")
        object.__setattr__(self, "jacobians_a", a)
        object.__setattr__(self, "jacobians_b", b)

    @classmethod
    def from_rows(
        cls,
        obs_a: Observation,
        obs_b: Observation,
        rows: ArrayLike,
        *,
        ids_a: ArrayLike | None = None,
        ids_b: ArrayLike | None = None,
    ) -> Pairs:
        """Pairs of samples: ``rows`` (L, 2) of the two observations that belong to the same inputs.

        With ``ids_a`` (n_a,) and ``ids_b`` (n_b,), identifiers of all samples of each side, those of every pair must agree.
        """
        return _of_rows(rows, obs_a, obs_b, "rows", _all_ids(ids_a, obs_a, "ids_a"), _all_ids(ids_b, obs_b, "ids_b"))

    def __len__(self) -> int:
        return len(self.points_a)

    def __repr__(self) -> str:
        m_a, m_b = self.points_a.shape[1], self.points_b.shape[1]
        derivatives = ", with derivatives" if self.with_derivatives else ""
        return f"Pairs({len(self)} pairs of {m_a} measurements of A and {m_b} of B{derivatives})"

    # As for observations: no sequence of its pairs, and no array.
    __iter__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise errors.DataTypeError("Pairs are no array; their measurements are .points_a and .points_b")

    def __getitem__(self, key: Any) -> Pairs:
        """Some of the pairs, by numbers, a boolean mask or a slice."""
        chosen = chosen_rows(key, len(self))
        ids = None if self.ids is None else self.ids[chosen]
        return replace(
            self,
            points_a=self.points_a[chosen],
            points_b=self.points_b[chosen],
            jacobians_a=None if self.jacobians_a is None else self.jacobians_a[chosen],
            jacobians_b=None if self.jacobians_b is None else self.jacobians_b[chosen],
            ids_a=ids,
            ids_b=ids,
            rows=None if self.rows is None else self.rows[chosen],
        )

    @property
    def ids(self) -> NDArray[Any] | None:
        """The identifiers on which both sides agree, (L,)."""
        found: NDArray[Any] | None = self.ids_a
        return found

    @property
    def points(self) -> tuple[FloatArray, FloatArray]:
        """Measurements (L, m_a) and (L, m_b)."""
        return self.points_a, self.points_b

    @property
    def marks(self) -> tuple[Marks, Marks]:
        """The pairs as each side sees them."""
        a, b = (None, None) if self.rows is None else (self.rows[:, 0], self.rows[:, 1])
        return Marks(self.points_a, a), Marks(self.points_b, b)

    def swapped(self) -> Pairs:
        """The same pairs with A and B exchanged."""
        rows = None if self.rows is None else self.rows[:, ::-1]
        points, jacobians = (self.points_b, self.points_a), (self.jacobians_b, self.jacobians_a)
        return replace(
            self,
            points_a=points[0],
            points_b=points[1],
            jacobians_a=jacobians[0],
            jacobians_b=jacobians[1],
            rows=rows,
        )

    @property
    def with_derivatives(self) -> bool:
        """Whether the pairs carry derivatives."""
        return self.jacobians_a is not None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_pairs

        save_pairs(self, path)


# Pairs of common inputs, in any form: measurements of both sides, or rows (L, 2) of both observations.
Landmarks = Pairs | tuple[ArrayLike, ArrayLike] | ArrayLike | None


def as_pairs(given: Landmarks, obs_a: Observation, obs_b: Observation, name: str = "landmarks") -> Pairs | None:
    """Pairs of two observations from any form in which a user may give them; None for none; `name` is for messages.

    Parameters
    ----------
    given : Pairs, tuple (points_a (L, m_a), points_b (L, m_b)), integer array_like of shape (L, 2), or None

    Raises
    ------
    LandmarkError
        Another form, rows out of range, or pairs that are rows of other observations.
    ShapeError, NonFiniteError, DataTypeError
        Measurements that do not fit, or were measured in another way than the observation.
    """
    if given is None:
        return None
    if isinstance(given, Pairs):
        for i, (points, obs) in enumerate(zip(given.points, (obs_a, obs_b), strict=True)):
            _check_width(points, obs, f"{name}.points_{'ab'[i]}")
        if given.rows is not None and not _are_rows_of(given, obs_a, obs_b):
            raise errors.LandmarkError(
                f"{name} were given as rows, but not of these two observations: make them again (Pairs.from_rows)"
            )
        return given
    if isinstance(given, (tuple, list)) and len(given) == 2 and _has_two_axes(given[0]):
        at_a = float_array(given[0], f"{name}[0]", 2, axes="(L, m_a)")
        _check_width(at_a, obs_a, f"{name}[0]")
        at_b = float_array(given[1], f"{name}[1]", 2, shape=(len(at_a), None), axes="(L, m_b)")
        _check_width(at_b, obs_b, f"{name}[1]")
        return Pairs(at_a, at_b)
    if isinstance(given, tuple) and len(given) == 2 and not _has_two_axes(given[0]):
        raise errors.LandmarkError(
            f"{name} is a tuple of two one-dimensional sequences; give row numbers as one (L, 2) array, e.g. "
            "np.column_stack([rows_a, rows_b])"
        )
    if isinstance(given, np.ndarray) and given.shape == (0, 2) and given.dtype.kind in "iu":
        return None
    return _of_rows(given, obs_a, obs_b, name)


def _of_rows(rows: Any, a: Observation, b: Observation, name: str, ids_a: Any = None, ids_b: Any = None) -> Pairs:
    try:
        pairs = dense(rows, name)
    except errors.ShapeError as error:
        raise errors.LandmarkError(f"{name} are not pairs of equal length: {error}") from error
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise errors.LandmarkError(
            f"{name} has shape {pairs.shape}; expected (points_a (L, m_a), points_b (L, m_b)) or row numbers (L, 2)"
        )
    try:
        rows_a = index_array(pairs[:, 0], f"{name}[:, 0]", len(a))
        rows_b = index_array(pairs[:, 1], f"{name}[:, 1]", len(b))
    except errors.InputError as error:
        raise errors.LandmarkError(str(error)) from error
    if (ids_a is None) != (ids_b is None):
        raise errors.LandmarkError("identifiers are known of one side only: give ids_a and ids_b, or neither")
    known = {} if ids_a is None else {"ids_a": ids_a[rows_a], "ids_b": ids_b[rows_b]}
    return Pairs(a.points[rows_a], b.points[rows_b], rows=np.column_stack([rows_a, rows_b]), **known)


def _all_ids(ids: Any, observation: Observation, name: str) -> NDArray[Any] | None:
    return None if ids is None else _identifiers(ids, name, len(observation))


def _identifiers(ids: Any, name: str, count: int) -> NDArray[Any]:
    try:
        found = np.asarray(list(ids) if isinstance(ids, range) else ids)
    except ValueError as error:
        raise errors.ShapeError(f"{name} are not a plain list: {error}") from error
    if found.dtype.kind == "O" and all(isinstance(one, str) for one in found.ravel()):
        found = found.astype(str)  # as a column of a data frame holds them
    if found.dtype.kind not in "iuU":
        raise errors.DataTypeError(f"{name} are {found.dtype}; identifiers are whole numbers or texts")
    if found.shape != (count,):
        raise errors.ShapeError(f"{name} have shape {found.shape}; one identifier for each of {count} is needed")
    return found


def _agreed(ids_a: Any, ids_b: Any, count: int) -> NDArray[Any] | None:
    """The identifiers of both sides, which must be the same ones in the same order, each once."""
    if ids_a is None and ids_b is None:
        return None
    if ids_a is None or ids_b is None:
        raise errors.LandmarkError("identifiers are known of one side only: give ids_a and ids_b, or neither")
    a, b = _identifiers(ids_a, "ids_a", count), _identifiers(ids_b, "ids_b", count)
    if (a.dtype.kind == "U") != (b.dtype.kind == "U"):
        raise errors.LandmarkError(f"ids_a are {a.dtype} and ids_b {b.dtype}: numbers and texts never agree")
    differing = np.flatnonzero(a != b)
    if len(differing):
        first = int(differing[0])
        of_a, of_b = (ids[first : first + 1].tolist()[0] for ids in (a, b))
        order = "; both hold the same identifiers in another order: sort both sides alike"
        raise errors.LandmarkError(
            f"the identifiers of {len(differing)} of {count} pairs differ ({rows_text(differing)}; at row {first} A has "
            f"{of_a!r:.40} and B {of_b!r:.40}){order if np.array_equal(np.sort(a), np.sort(b)) else ''}"
        )
    values, counts = np.unique(a, return_counts=True)
    if len(values) < count:
        again = values[counts > 1].tolist()[0]
        raise errors.LandmarkError(
            f"{count - len(values)} identifiers are there more than once ({again!r:.40}, for one): a pair "
            "counts once; remove the repetitions"
        )
    return a


def _check_width(points: FloatArray, observation: Observation, name: str) -> None:
    """Make sure that points have as many measurements as the observation, and say where they seem to come from."""
    m, options = observation.shape[1], observation.options
    if points.shape[1] == m:
        return
    hint = ""
    if points.shape[1] == options.width and options.neurons is not None:
        layer = "the output" if options.layer is None else f"layer {options.layer!r}"
        hint = f": all of {layer}, of which this observation has {m} neurons; measure them alike, obs.measure(model, inputs)"
    elif options.complete:
        hint = ": they are what the network measures at common inputs, as it was observed, obs.measure(model, inputs)"
    raise errors.ShapeError(f"{name} has {points.shape[1]} measurements, and its observation {m}{hint}")


def _are_rows_of(pairs: Pairs, obs_a: Observation, obs_b: Observation) -> bool:
    return all(
        marks.rows is not None and marks.rows.max() < len(obs) and np.array_equal(obs.points[marks.rows], marks.points)
        for marks, obs in zip(pairs.marks, (obs_a, obs_b), strict=True)
    )


def _has_two_axes(value: Any) -> bool:
    """Whether an array-like has two axes; ragged lists have none."""
    try:
        return int(np.ndim(value)) == 2
    except ValueError:
        return False


def parse_observables(observables: Any, obs_a: Observation, obs_b: Observation) -> tuple[FloatArray, FloatArray] | None:
    """Values of one quantity at the samples of both sides, (n_a, p) and (n_b, p), checked."""
    if observables is None:
        return None
    if not (isinstance(observables, (tuple, list)) and len(observables) == 2):
        raise errors.ParameterError(
            "observables must be a pair (values_a, values_b): a quantity that both networks report, at every sample of each"
        )
    values = []
    for name, given, obs in (("observables[0]", observables[0], obs_a), ("observables[1]", observables[1], obs_b)):
        if np.ndim(given) == 1:
            given = np.reshape(given, (-1, 1))
        values.append(float_array(given, name, 2, shape=(len(obs), None), axes="(n,) or (n, p)"))
    if values[0].shape[1] != values[1].shape[1]:
        raise errors.ShapeError(
            f"observables have {values[0].shape[1]} and {values[1].shape[1]} columns: they must be the same quantities"
        )
    constant = np.flatnonzero((np.ptp(values[0], axis=0) == 0) | (np.ptp(values[1], axis=0) == 0))
    if len(constant):
        raise errors.InputError(f"column {constant[0]} of the observables is constant on a side: it says nothing")
    return values[0], values[1]
