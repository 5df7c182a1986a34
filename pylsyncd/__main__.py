"""``python -m pylsyncd`` is the command ``pylsyncd``."""

from pylsyncd.entry import pylsyncd

if __name__ == "__main__":
    raise SystemExit(pylsyncd())
