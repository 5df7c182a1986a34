"""The control socket of pylsyncctl; the status as a file, as a table and for Nagios."""
