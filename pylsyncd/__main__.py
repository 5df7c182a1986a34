"""``python -m pylsyncd`` runs the command ``pylsyncd``."""

from pylsyncd.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
