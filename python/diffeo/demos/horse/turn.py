"""What each camera would have seen of angles that no network was trained on, and how a map turns one into the other."""

from __future__ import annotations

from dataclasses import dataclass

from diffeo._support.arrays import FloatArray
from diffeo.verdict.error_bounds import relative_error


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Angles around the turn that no network was trained on, with what is true there.

    Attributes
    ----------
    angles : ndarray of shape (count,)
    seen_a, seen_b : ndarray of shape (count, size, size)
        What the cameras see.
    codes_a : ndarray of shape (count, m_a)
        What A makes of it.
    own : ndarray of shape (count, size, size)
        Drawn by B's decoder from B's own code.
    curve : tuple of ndarray (k,) and (k, m_b)
        Angles, and B's own codes there.
    """

    angles: FloatArray
    seen_a: FloatArray
    seen_b: FloatArray
    codes_a: FloatArray
    own: FloatArray
    curve: tuple[FloatArray, FloatArray]

    def picture_error(self, pictures: FloatArray) -> float:
        """Relative error of pictures (count, size, size) beside what camera B sees."""
        count = len(self.angles)
        return relative_error(pictures.reshape(count, -1), self.seen_b.reshape(count, -1))


@dataclass(frozen=True, eq=False)
class Turn:
    """What a map from A to B does around the turn.

    Attributes
    ----------
    angle_errors : ndarray of shape (count,)
        In degrees: the angle at which B's own code is nearest to the predicted one, less the true angle.
    drawn : ndarray of shape (count, size, size)
        By B's decoder from the predicted code.
    """

    angle_errors: FloatArray
    drawn: FloatArray
