"""Thin pieces over the operating system, which know nothing of rsync or inotify."""
