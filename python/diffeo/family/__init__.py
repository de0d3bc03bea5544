"""All pairs of a family of networks: what is kept of each, classes and conflicts, told and drawn.

In order: cells -> classes -> found -> training -> text -> drawings -> plots -> page.
"""
