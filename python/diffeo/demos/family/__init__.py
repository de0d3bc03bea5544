"""Ten networks of two tasks, compared in all pairs.

In order: pictures -> experiment.
"""
