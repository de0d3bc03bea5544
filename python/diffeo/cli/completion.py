"""What ``diffeo completion`` prints: a script by which a shell completes commands, options and files; shtab writes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from diffeo import errors

SHELLS = ("bash", "zsh", "fish")
# What names of values say of them: files end alike in the help.
FILES, FOLDERS = (".npz", ".npy", ".csv", ".safetensors", "F"), ("DIR",)


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of `SHELLS`.

    Raises
    ------
    MissingDependencyError
        Without shtab.
    """
    try:
        import shtab
    except ImportError as error:
        raise errors.MissingDependencyError("completion needs shtab: pip install 'diffeo[completion]'") from error
    for action in _actions(parser):
        name = action.metavar if isinstance(action.metavar, str) else ""
        if name.endswith(FILES):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif name in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
