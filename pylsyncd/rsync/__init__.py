"""rsync: its command, the list that it reads, its runs, and the meaning of its output."""
