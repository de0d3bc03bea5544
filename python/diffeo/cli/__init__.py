"""The command ``diffeo``."""
