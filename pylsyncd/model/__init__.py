"""The words of the program: paths, changes and places. No I/O."""
