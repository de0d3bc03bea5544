"""Two observations joined: the change of coordinates between them, and what is known of its trustworthiness."""
