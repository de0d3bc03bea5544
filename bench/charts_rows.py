"""The rows of `bench.bench_charts`: what registers them, and how much work each does."""

from __future__ import annotations

from dataclasses import dataclass

from bench.rows import Rows


@dataclass(frozen=True)
class Size:
    n: int
    networks: int
    steps: int
    draws: int
    cliffs: int
    uniform: tuple[int, ...]


DESCRIPTION = (
    "Charts of one network each: made once, matched many times; across cliffs; of trained networks; hard beside easy."
)

row = Rows(
    "bench_charts",
    DESCRIPTION,
    Size(4000, 10, 3000, 40, 20, (1000, 2000, 4000, 8000, 16000)),
    Size(400, 3, 300, 3, 1, (300, 600)),
)
