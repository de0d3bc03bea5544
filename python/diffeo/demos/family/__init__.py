"""Ten networks of two tasks, compared in all pairs."""
