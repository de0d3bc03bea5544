"""What two observations show without any pair."""
