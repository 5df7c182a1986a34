"""pylsyncd whose sources share one inotify instance: ``python sharing_daemon.py ARGUMENTS``."""

from functools import partial

from pylsyncd import cli, service
from pylsyncd.watcher.inotify_pool import InotifyPool

if __name__ == "__main__":
    service.InotifyPool = partial(InotifyPool, max_own=0, max_shared=1)  # type: ignore[misc, assignment]
    raise SystemExit(cli.main())
