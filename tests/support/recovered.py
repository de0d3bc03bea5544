"""Fitted isometric embeddings, and by how much they miss the inputs."""

from __future__ import annotations

import functools

import numpy as np
from diffeo import IsometricEmbedding, Observation
from support.samples import random_orthogonal, smooth_map, square


def motion(found, true):
    """The orthogonal matrix and the centres that carry recovered coordinates to true ones."""
    u, _, vt = np.linalg.svd((found - found.mean(axis=0)).T @ (true - true.mean(axis=0)))
    return u @ vt, found.mean(axis=0), true.mean(axis=0)


def apply(moved, coordinates):
    rotation, here, there = moved
    return (coordinates - here) @ rotation + there


def procrustes_error(found, true):
    """Root-mean-square distance after the best rigid motion, relative to the spread of the truth."""
    miss = apply(motion(found, true), found) - true
    return np.linalg.norm(miss) / np.linalg.norm(true - true.mean(axis=0))


def observe_at(x, measure):
    """An observation whose every Jacobian is turned by a rotation of its own."""
    y, jacobians = measure(x)
    turned = jacobians @ random_orthogonal(len(x), x.shape[1], seed=11)
    return Observation.from_jacobians(y, np.ascontiguousarray(turned), dim=x.shape[1])


def ring_map(angle, seed=0):
    """A circle of radius 1 seen by five smooth measurements, with Jacobians by arc length."""
    ring = np.hstack([np.cos(angle), np.sin(angle)])
    along = np.hstack([-np.sin(angle), np.cos(angle)])[:, :, None]
    y, jacobians = smooth_map(2, 5, seed=seed, bend=0.2)(ring)
    return y, jacobians @ along


def circle(n, seed=0):
    angle = 2 * np.pi * square(n, 1, seed)
    return angle, Observation.from_jacobians(*ring_map(angle, seed))


@functools.cache
def fitted_square(n=2000, seed=0):
    """Inputs, map, and fitted embedding of the unit square seen by five measurements."""
    x, measure = square(n, 2, seed), smooth_map(2, 5, seed)
    return x, measure, IsometricEmbedding().fit(observe_at(x, measure))
