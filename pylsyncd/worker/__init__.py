"""One destination: its worker thread, what is pending for it, and its rsync runs."""
