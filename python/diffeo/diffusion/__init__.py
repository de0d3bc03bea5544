"""Diffusion coordinates: bandwidth, kernel, eigenpairs, and the independent ones among them."""
