"""A verdict told and drawn: text, page and figures; and plots for notebooks.

In order: template, svg, text -> figures -> notebook, page -> plots.
"""
