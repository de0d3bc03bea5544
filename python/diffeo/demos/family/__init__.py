"""Ten networks of two tasks, compared in all pairs.

In order: compared -> pictures -> experiment.
"""
