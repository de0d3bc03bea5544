"""Memory: half of the least that the machine, control groups or the process's own limits leave."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from diffeo import errors
from diffeo._support import memory

GIB = 2**30


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without limits, whose files are in a folder."""
    monkeypatch.delenv("DIFFEO_MEMORY_LIMIT", raising=False)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.get)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (tmp_path / "groups").mkdir()
    return tmp_path


def group(machine, path, name, text):
    folder = machine / "groups" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{text}\n")


def test_half_of_the_machine_where_nothing_else_limits(machine):
    assert memory.memory_limit() == 32 * GIB


def test_the_tightest_group_on_the_way_up_counts(machine):
    (machine / "cgroup").write_text("0::/user/job/step\n")
    group(machine, "user/job/step", "memory.max", "max")
    group(machine, "user/job", "memory.max", 4 * GIB)
    group(machine, "user", "memory.max", 8 * GIB)
    group(machine, "elsewhere", "memory.max", 1)
    assert memory.memory_limit() == 2 * GIB


def test_groups_of_the_first_version_count_and_so_does_the_root_of_a_container(machine):
    (machine / "cgroup").write_text("7:cpu:/a\n4:cpuset,memory:/docker/1234\n0::/\n")
    group(machine, "memory", "memory.limit_in_bytes", 6 * GIB)
    assert memory.memory_limit() == 3 * GIB


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(machine, monkeypatch, kind):
    limits = {getattr(resource, kind): (2 * GIB, 2 * GIB)}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: limits.get(kind, unlimited))
    assert memory.memory_limit() == GIB


def test_what_the_user_says_counts_alone(machine, monkeypatch):
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "1e6")
    assert memory.memory_limit() == 1_000_000
    for wrong in ("much", "inf", "nan"):
        monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", wrong)
        with pytest.raises(errors.ParameterError, match="number of bytes"):
            memory.memory_limit()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit of addresses is not kept")
def test_a_kernel_beyond_the_limit_of_the_process_is_refused_before_memory_is_taken():
    code = """
import resource, numpy as np, diffeo
x = np.random.default_rng(0).random((20_000, 2))
diffeo.mahalanobis_kernel(x[:200])
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
try:
    diffeo.mahalanobis_kernel(x, epsilon=1.0)
except diffeo.errors.MemoryLimitError as error:
    assert "above the limit of 1.00 GiB" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2**20
    raise SystemExit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
