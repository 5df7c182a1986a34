"""Helpers for the tests: trees, servers, the daemon as a process, operations on a source."""
