"""Diffusion coordinates: a `Kernel`, and the `DiffusionMap` of it.

In order: bandwidth -> kernel -> diffusion_map -> independent.
"""
