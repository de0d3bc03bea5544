"""Fixtures that several stages share, and how threads wait; helpers stand in support/."""

from __future__ import annotations

import os
import shutil
import signal

# Waiting threads sleep instead of spinning: on shared cores the suite takes a third of the time. libgomp
# reads this once, so it must be set before anything loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Shells start what runs in the background deaf to Ctrl-C, and so are its children: tests of interrupts would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from support.samples import smooth_observation


@pytest.fixture(scope="session")
def square_in_five():
    """2,000 samples of the unit square seen by five measurements."""
    return smooth_observation(2000, 2, 5, seed=3)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Saved results by kind, (path, result): to be read only."""
    from support.stored import write_files

    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def copy_of(files, tmp_path):
    """Copies a saved result to where it may be damaged."""
    return lambda kind: shutil.copy(files[kind][0], tmp_path / "copy.safetensors")
