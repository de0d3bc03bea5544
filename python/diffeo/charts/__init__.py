"""One observation with intrinsic coordinates, both ways: a `Chart`.

In order: diffusion, isometric, measured -> coordinates, problems -> chart.
"""
