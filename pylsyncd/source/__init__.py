"""The watched directory: what changes in it, and whether it is what it should be."""
