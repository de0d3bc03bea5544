"""Anderson's acceleration of fixed-point iterations (1965)."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray

# Earlier steps that are combined; 5 to 20 were measured alike on layouts.
MEMORY = 8


class Anderson:
    """The combination of the last images whose combined move is smallest, for vectors of one size.

    Differences of consecutive moves and images are kept, the oldest replaced, with the Gram matrix of the former, so
    that a step costs a few passes over them.
    """

    def __init__(self, size: int) -> None:
        self._moves, self._images = np.empty((MEMORY, size)), np.empty((MEMORY, size))
        self._gram = np.zeros((MEMORY, MEMORY))
        self._count = 0
        self._last: tuple[FloatArray, FloatArray] | None = None

    def forget(self) -> None:
        """Start anew."""
        self._count, self._last = 0, None

    def __call__(self, image: FloatArray, move: FloatArray) -> FloatArray:
        """The next iterate, from the image (size,) of the last one and how far that is from it."""
        if self._last is None:
            self._last = (image, move)
            return image
        slot = self._count % MEMORY
        np.subtract(image, self._last[0], out=self._images[slot])
        np.subtract(move, self._last[1], out=self._moves[slot])
        self._last = (image, move)
        self._count += 1
        used = min(self._count, MEMORY)
        moves = self._moves[:used]
        self._gram[slot, :used] = self._gram[:used, slot] = moves @ self._moves[slot]
        weights = np.linalg.lstsq(self._gram[:used, :used], moves @ move, rcond=1e-12)[0]
        combined: FloatArray = image - weights @ self._images[:used]
        return combined
