"""Isometric coordinates: an `IsometricEmbedding`, by a neighbour graph with Mahalanobis lengths, laid out without distortion.

In order: trust, periods, laplacian -> graph -> gauss_newton, stress -> frames, frame_layout -> hinges, hermite,
rough_lengths, trend -> unfolding -> layout_search -> embedding.
"""
