"""One observation with intrinsic coordinates, both ways: a `Chart`.

In order: cover, diffusion, isometric -> measured -> coordinates, problems, halves,
measurement_noise -> noisy_marks, chart -> pieces.
"""
