"""Two observations joined: a `Transformation`, and what is known of its trustworthiness.

In order: pairs, gaussian_process -> predictors -> landmark_correction -> paired -> expected_error, diagnostics ->
piecewise -> maps ->
transformation -> problem -> wrong_landmarks -> isometric_match, diffusion_match, by_pairs, parts -> self_check ->
match_observations -> reconstruction.
"""
