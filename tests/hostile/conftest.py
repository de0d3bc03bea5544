"""How long the hostile tests run: ``python -m pytest tests/hostile --full`` takes hours, and draws its own seed."""

from __future__ import annotations

import time

import pytest


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="hostile tests at full length, from a random seed as well")


@pytest.fixture(scope="session")
def full(request):
    return bool(request.config.getoption("--full", default=False))


@pytest.fixture(scope="session")
def seed(full):
    """The same on every run, but for the full length; printed where a test fails."""
    drawn = time.time_ns() % 2**31 if full else 20261130
    print(f"seed {drawn}")
    return drawn
