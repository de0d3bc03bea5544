"""Diffusion coordinates: a `Kernel`, and the `DiffusionMap` of it.

In order: bandwidth -> kernel -> generator -> diffusion_map -> independent.
"""
