"""Whether two networks see the same thing, judged on held-out pairs."""
