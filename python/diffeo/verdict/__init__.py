"""Whether two networks see the same thing, judged on held-out pairs: a `Report`.

In order: lost_information, common -> shown_loss -> unseen_inputs -> error_bounds, baselines -> set_aside -> report,
report_facts -> sentences -> losses -> assess_transformation -> layer_comparison -> common_inputs -> layers.
"""
