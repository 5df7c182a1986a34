"""Keeps remote copies of a directory tree equal to it, with inotify and rsync."""

__version__ = "0.1.0"
