"""What one network measured, with its local metric: an `Observation`.

In order: neighborhoods, how_measured, noise, rank, shrinkage, whitening -> sources, selection -> observation -> joining,
estimator_input, tree, burst_smoothing, folds, curvature -> sampling.
"""
