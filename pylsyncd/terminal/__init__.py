"""The log and the progress display on a terminal."""
