"""What the black-box tests stand on: trees, servers, the daemon as a process, operations."""
