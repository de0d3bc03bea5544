"""One sample laid on another, in coordinates."""
