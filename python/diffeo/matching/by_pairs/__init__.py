"""Maps from pairs alone: measure_pairs and match_pairs, from two networks to a `Transformation`; and what landmarks carry.

In order: measured, problems, pair_map -> matched.
"""
