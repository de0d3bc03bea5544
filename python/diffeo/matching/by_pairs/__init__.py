"""match_pairs: from pairs to a `Transformation` with both ways, and what is to be said of it.

In order: problems -> matched.
"""
