"""What the user has asked for."""
