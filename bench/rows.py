"""Rows that a benchmark registers by name, the command that computes the chosen ones and prints their table, and a clock."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from diffeo import errors
from tqdm import tqdm

from bench.figures import Row, table

RowFunction = Callable[[str, Any], Row]


class Clock:
    """Seconds since it was made: by the clock, and of all threads of this process."""

    def __init__(self) -> None:
        self._start, self._work = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """By the clock."""
        return time.perf_counter() - self._start

    @property
    def work(self) -> float:
        """Of all threads of this process."""
        return time.process_time() - self._work

    def told(self) -> str:
        """Both: on a machine that others use too, what the processors worked is what is left of the figure."""
        return f"{self.seconds:.1f} s by the clock, {self.work:.1f} s of processors' time"


class Rows:
    """A decorator that registers a function under the names of the rows that it computes, and their command.

    `full` and `quick` are the sizes that functions get beside the name; `left_out` says which names a size leaves out.
    """

    def __init__(
        self,
        command: str,
        description: str | None,
        full: Any,
        quick: Any,
        left_out: Callable[[str, Any], bool] = lambda name, size: False,
    ) -> None:
        self.command, self.description = command, description
        self.full, self.quick, self.left_out = full, quick, left_out
        self.functions: dict[str, RowFunction] = {}

    def __call__(self, *names: str) -> Callable[[RowFunction], RowFunction]:
        def register(function: RowFunction) -> RowFunction:
            self.functions.update(dict.fromkeys(names, function))
            return function

        return register

    def chosen(self, only: str | None, size: Any) -> list[str]:
        """Names of the rows to compute; an unknown name ends the program."""
        names = [name for name in self.functions if not self.left_out(name, size)]
        if only is None:
            return names
        # Names may hold commas themselves.
        asked = [only.strip()] if any(name.startswith(only.strip()) for name in names) else only.split(",")
        asked = [text.strip() for text in asked]
        for text in asked:
            if not any(name.startswith(text) for name in names):
                sys.exit(f"no row begins with {text!r}; rows: {', '.join(names)}")
        # A whole name is that row alone, also where others begin like it.
        whole = [text for text in asked if text in names]
        begins = [text for text in asked if text not in names]
        return [name for name in names if name in whole or any(name.startswith(text) for text in begins)]

    def computed(self, name: str, size: Any) -> tuple[Row, bool]:
        """The row, and whether it could be computed."""
        try:
            return self.functions[name](name, size), True
        except Exception as error:  # one row must not take the others with it
            return Row(name, "could not be computed", type(error).__name__, "", False, str(error)), False

    def main(self) -> int:
        """Compute and print; the exit code is 1 if a row could not be computed."""
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
        parser.add_argument("--only", metavar="NAME,...", help="rows to compute, by name or by how it begins")
        parser.add_argument("--size", metavar="NAME=NUMBER,...", help="numbers of the size to change: fewer maps, say")
        arguments = parser.parse_args()
        warnings.simplefilter("ignore", errors.DiffeoWarning)
        size = self.quick if arguments.quick else self.full
        if arguments.size is not None:
            size = replace(size, **{k: int(v) for k, v in (text.split("=") for text in arguments.size.split(","))})
        rows, complete = [], True
        for name in tqdm(self.chosen(arguments.only, size), desc="rows", disable=None):
            start = time.perf_counter()
            found, well = self.computed(name, size)
            rows.append((found, time.perf_counter() - start))
            # What is known now is not lost if a later row is stopped.
            tqdm.write(f"{found.name}: {found.value}; {found.beside}", file=sys.stderr)
            complete = complete and well
        print(f"python -m bench.{self.command} {' '.join(sys.argv[1:])}".rstrip())
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        print(f"{datetime.date.today()}, {machine}, Python {platform.python_version()}, numpy {np.__version__}")
        print(table(rows))
        return 0 if complete else 1
