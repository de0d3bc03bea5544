"""Isometric coordinates: a neighbour graph with Mahalanobis lengths, laid out without distortion."""
