"""measure_pairs and match_pairs: from two networks to pairs, and from these to a `Transformation` with both ways.

In order: measured, problems -> matched.
"""
