"""What is owed to a destination, and how it gets there."""
