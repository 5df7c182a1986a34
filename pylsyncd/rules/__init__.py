"""What is left out of a sync. No I/O."""
