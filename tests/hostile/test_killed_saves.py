"""kill -9 during saves: the file is the old one or a new one, and the next save leaves no draft."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import diffeo
import numpy as np
from diffeo.files import container

CODE = """
import sys
import diffeo, numpy as np
x = np.random.default_rng(0).random((20_000, 2))
a = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (len(x), 2, 2)))
a.save(sys.argv[1])
print("ready", flush=True)
while True:
    a.save(sys.argv[1])
"""


def drafts(folder):
    return [name for name in os.listdir(folder) if container.DRAFT.fullmatch(name)]


def small():
    x = np.random.default_rng(1).random((30, 2))
    return diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (30, 2, 2)))


def test_kills_tear_nothing_and_leave_nothing(tmp_path, full, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "a.safetensors"
    left = 0
    for _ in range(50 if full else 4):
        with subprocess.Popen([sys.executable, "-c", CODE, str(path)], stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.05))
            child.send_signal(signal.SIGKILL)
        left += len(drafts(tmp_path))
        assert len(diffeo.load(path)) == 20_000
        small().save(tmp_path / "b.safetensors")
        assert not drafts(tmp_path)
    print(f"{left} drafts were left, and swept up")


def test_a_draft_that_somebody_writes_is_left_alone(tmp_path):
    import fcntl

    held, dead = (tmp_path / f".diffeo-{digit * 16}.tmp" for digit in "01")
    other = tmp_path / ".diffeo-mine.tmp"
    for path in (held, dead, other):
        path.write_bytes(b"draft")
    pipe = tmp_path / f".diffeo-{'2' * 16}.tmp"
    os.mkfifo(pipe)
    with open(held) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        small().save(tmp_path / "a.safetensors")
    assert held.exists()
    assert not dead.exists()
    assert other.exists()
    assert pipe.exists()


def test_a_draft_that_is_swept_up_before_it_is_locked_is_written_again(tmp_path, monkeypatch):
    flock, swept = container.fcntl.flock, []

    def swept_first(file, how):
        if not swept:
            swept.extend(drafts(tmp_path))
            os.unlink(tmp_path / swept[0])
        flock(file, how)

    monkeypatch.setattr(container.fcntl, "flock", swept_first)
    small().save(tmp_path / "a.safetensors")
    assert len(swept) == 1
    assert len(diffeo.load(tmp_path / "a.safetensors")) == 30
    assert not drafts(tmp_path)
