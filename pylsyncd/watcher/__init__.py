"""The source: its inotify watches, and the changes found by events and scans."""
