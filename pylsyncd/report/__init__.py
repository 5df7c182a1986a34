"""What the daemon tells the outside: by a socket, files, metrics, hooks, and on the terminal."""
