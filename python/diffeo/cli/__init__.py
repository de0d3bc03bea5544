"""The command ``diffeo``.

In order: reading -> pair_commands -> commands -> parser.
"""
