"""The examples of the docstrings of every public name and its methods run, and print what they say."""

from __future__ import annotations

import doctest
import importlib.util
import inspect

import diffeo
import pytest

PUBLIC = sorted(set(diffeo.__all__) - {"__version__", "errors", "reference"})
# Whose page shows the example of what makes it.
MADE_BY = {"Chart": "embed"}
# The methods below a class are found too: `Observation.select` has an example.
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples(name):
    """Of a public name, under the module that holds it, whatever decorates it."""
    found = inspect.unwrap(getattr(diffeo, name))
    return [one for one in FINDER.find(found, name, module=inspect.getmodule(found)) if one.examples]


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name):
    held = examples(MADE_BY.get(name, name))
    assert held, f"{name} has no example"
    for one in held:
        if "torch" in one.docstring and importlib.util.find_spec("torch") is None:
            pytest.skip("the example needs torch")
        one.globs = {}
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(one, out=said.append)
        assert runner.failures == 0, "".join(said)
