"""All that is known of rsync: how it is run, and what it says."""
