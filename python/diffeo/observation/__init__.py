"""What one network measured, with its local metric."""
