"""The rules that include and exclude paths. No I/O."""
