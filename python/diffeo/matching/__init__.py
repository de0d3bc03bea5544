"""Two observations joined: a `Transformation`, and what is known of its trustworthiness.

In order: pairs, gaussian_process -> landmark_correction -> diagnostics -> transformation -> pair_map ->
match_observations -> reconstruction.
"""
