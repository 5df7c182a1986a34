"""The configuration: command line and file to validated settings."""
