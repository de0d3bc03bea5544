"""A verdict told and drawn: text, page and figures; and plots for notebooks.

In order: style, svg, text -> figures -> page -> plots.
"""
