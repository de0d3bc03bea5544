"""Whether two networks see the same thing, judged on held-out pairs: a `Report`.

In order: held_out_pairs, lost_information, shown_loss -> error_bounds, baselines -> set_aside -> report -> sentences ->
assess_transformation -> layer_comparison -> layers.
"""
