"""The control socket of pylsyncctl, and the status in its forms."""
