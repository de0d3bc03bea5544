"""What one network measured, with its local metric: an `Observation`.

In order: noise, rank, shrinkage, whitening, neighborhoods -> sources -> observation -> estimator_input, tree,
burst_smoothing, folds, curvature.
"""
