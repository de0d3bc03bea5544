"""The command ``diffeo``.

In order: commands -> parser.
"""
