"""Two observations joined: a `Transformation`, and what is known of its trustworthiness.

In order: pairs, gaussian_process -> landmark_correction -> diagnostics -> maps -> transformation -> problem ->
wrong_landmarks -> pair_map, isometric_match, diffusion_match -> match_observations -> reconstruction.
"""
