"""The command ``diffeo``.

In order: reading -> pair_commands -> family_commands -> commands -> doctor,
terminal, completion, pages -> parser.
"""
