"""Files as an attacker would write them, and that they are refused."""

from __future__ import annotations

import json

import diffeo
import pytest
import safetensors.numpy
from diffeo import errors
from diffeo.files import container


def forge(path, description, tensors, *, digest=True):
    """Write what an attacker would, who knows how to make the digest fit."""
    description = {key: value for key, value in description.items() if key != "sha256"}
    if digest:
        description["sha256"] = container.digest(description, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"diffeo": json.dumps(description)}))


def refused(path, message):
    with pytest.raises(errors.StorageError, match=message) as caught:
        diffeo.load(path)
    assert str(path) in str(caught.value)
