"""The data that the other packages share: paths, changes, endpoints, status. No I/O."""
