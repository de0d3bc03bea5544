"""What a terminal shows: a parser whose help and errors are made to be read, and colours where the terminal has them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from typing import IO, Any, NoReturn

from diffeo._support.wording import printable

# Columns of help: longer lines are hard to read.
WIDTH = 100
# Select Graphic Rendition: attributes that every terminal with colours has.
STYLES = {"bold": "1", "faint": "2", "red": "1;31", "green": "1;32", "yellow": "33", "cyan": "36"}
# Of help: a heading; an option or a command at the begin of a line; an example.
_HEADING = re.compile(r"^(?P<it>[a-z][a-z ]*:)(?=$| )", re.MULTILINE)
_NAME = re.compile(
    r"^(?P<before> {2,4})(?P<it>(?:-{1,2}[a-z][\w-]*|[a-z]+(?= {2,}\S|$))(?:, -{2}[\w-]+)*)", re.MULTILINE
)
_EXAMPLE = re.compile(r"^(?P<before> {4})(?P<it>diffeo (?:.*\\\n)*.*)$", re.MULTILINE)
# Of results: a verdict at the begin; what to look at; what was written.
_VERDICT = re.compile(r"[A-Z][\w ,']*:|nothing speaks against equivalence|all is well")
_PROBLEM = re.compile(r"^(?P<before> *)(?P<it>(?:\d+ )?problems?\b[^\n:]*:?)", re.MULTILINE)
_WROTE = re.compile(r"^(?P<before> *)(?P<it>wrote .*)$", re.MULTILINE)


def coloured(stream: IO[str]) -> bool:
    """Whether to colour what goes to a stream: a terminal that can, or FORCE_COLOR; never where NO_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str, stream: IO[str]) -> str:
    """The text in a style, where the stream shows any."""
    return _in(text, style) if coloured(stream) else text


def _in(text: str, style: str) -> str:
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def _painted(pattern: re.Pattern[str], style: str, text: str) -> str:
    def one(found: re.Match[str]) -> str:
        return (found.groupdict().get("before") or "") + _in(found["it"], style)

    return pattern.sub(one, text)


def show_result(text: str, code: int) -> None:
    """Print what a command found: its first words stand out, green where all is well, yellow where not."""
    if coloured(sys.stdout):
        verdict = _VERDICT.match(text)
        if verdict:
            text = _in(verdict[0], "green" if code == 0 else "yellow") + text[verdict.end() :]
        text = _painted(_WROTE, "faint", _painted(_PROBLEM, "yellow", text))
    print(text)


def show_error(message: str) -> None:
    """Print an error on stderr, as one paragraph that steers no terminal."""
    head = paint("diffeo: error:", "red", sys.stderr)
    print(f"{head} {printable(' '.join(message.split()))}", file=sys.stderr)


def show_warning(message: str) -> None:
    """Print a warning on stderr, likewise."""
    head = paint("diffeo: warning:", "yellow", sys.stderr)
    print(f"{head} {printable(' '.join(message.split()))}", file=sys.stderr)


class Page(argparse.RawDescriptionHelpFormatter):
    """Help in at most `WIDTH` columns, without a line for the word that stands for all commands."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(WIDTH, shutil.get_terminal_size().columns - 2))

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        self._action_max_length += 2  # commands are indented once more than argparse counts
        return super()._format_action(action).partition("\n")[2]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one paragraph, and whose help has colours where the terminal has them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Page)
        if sys.version_info >= (3, 14):
            kwargs.setdefault("color", False)  # ours are those of the results, too
        super().__init__(*args, **kwargs)

    def format_help(self) -> str:
        """The page, with commands before options."""
        self._action_groups.sort(key=lambda group: group.title == "options")
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where help is."""
        show_error(f"{message} ({self.prog} --help shows what there is)")
        raise SystemExit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        file = file or sys.stderr
        if message and coloured(file):
            for pattern, style in ((_EXAMPLE, "faint"), (_HEADING, "bold"), (_NAME, "cyan")):
                message = _painted(pattern, style, message)
        super()._print_message(message, file)
