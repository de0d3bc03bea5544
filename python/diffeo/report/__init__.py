"""A verdict told and drawn: text, page, figures; and plots."""
