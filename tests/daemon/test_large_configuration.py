"""A configuration of three sources and eight destinations, from --check-config to in sync."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd, environment
from support.destinations import on_rsync_daemon
from support.servers import RsyncDaemon, SshServer
from support.trees import differences, equal_within

CONFIGURATION = """\
# Three sources, eight destinations.
[pylsyncd]
state_dir = {top}/state
control = {top}/run/pylsyncd.sock
status_file = {top}/status.json
max_runs = 3
initial_sync = yes

[sync web]
source = {top}/web/./
window = 0.5
destinations =
    {top}/mirror
    localhost:{top}/by-ssh/web/
    {urls[0]}
exclude =
    *.tmp
    /cache/

[sync mail]
source = {top}/mail/./
window = 0.5
destinations =
    localhost:{top}/by-ssh/mail/
    {urls[1]}
    {top}/archive

[sync data]
source = {top}/data/./
window = 0.2
modify = yes
destinations =
    {urls[2]}
    {top}/spare

[destination localhost]
rsh = {rsh}
nice = 5

[destination spare]
window = 1
bandwidth_limit = 100m
batch_size_limit = 1M
"""


def check(file: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--check-config", "-c", file],
        capture_output=True, env=environment(), text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def test_three_sources_and_eight_destinations(
    tmp_path: Path, ssh_server: SshServer, rsync_daemon: RsyncDaemon
) -> None:
    modules = [
        on_rsync_daemon(rsync_daemon, "rsyncd", f"{tmp_path.name}-{name}")
        for name in ("web", "mail", "data")
    ]
    file = tmp_path / "pylsyncd.conf"
    file.write_text(
        CONFIGURATION.format(
            top=tmp_path, urls=[module.argument for module in modules], rsh=ssh_server.rsh
        )
    )
    (tmp_path / "by-ssh").mkdir()
    (tmp_path / "run").mkdir(0o700)
    for name in ("web", "mail", "data"):
        (tmp_path / name / "directory").mkdir(parents=True)
        (tmp_path / name / "directory" / "file").write_text(name)
    (tmp_path / "web/cache").mkdir()
    (tmp_path / "web/cache/page").write_text("page")
    code, said = check(file)
    assert code == 0, said
    for name in ("web/mirror", "mail/archive", "data/spare", "web/localhost", "mail/localhost"):
        assert f"[{name}]" in said
    copies = {
        "web": [os.fsencode(tmp_path / "mirror"), os.fsencode(tmp_path / "by-ssh/web")],
        "mail": [os.fsencode(tmp_path / "archive"), os.fsencode(tmp_path / "by-ssh/mail")],
        "data": [os.fsencode(tmp_path / "spare")],
    }
    for name, module in zip(copies, modules, strict=True):
        copies[name].append(module.path)
    ctl = Pylsyncctl(tmp_path / "run")
    with Pylsyncd("-v", "-c", file) as daemon:
        daemon.wait_for(r"\[data/spare\] initial sync complete")
        (tmp_path / "web/new.tmp").write_text("left out")
        for name in copies:
            (tmp_path / name / "directory" / "new").write_text(name)
            (tmp_path / name / "directory" / "file").rename(tmp_path / name / "moved")
        (tmp_path / "data/large").write_bytes(b"x" * (2 << 20))
        answer = ctl.run("wait", "--timeout", "45")
        assert answer.returncode == 0, (answer, daemon.log_tail)
        assert not differences(os.fsencode(tmp_path / "mail"), copies["mail"][0])
        for copy in copies["web"]:
            assert sorted(os.listdir(copy)) == [b"directory", b"moved"]
        for name in ("mail", "data"):
            for copy in copies[name]:
                found = equal_within(
                    os.fsencode(tmp_path / name), copy, 0.0, ignore=modules[0].ignore
                )
                assert found == [], (name, copy)
        status = json.loads(ctl.run("status", "--json").stdout)
        told = [each for sync in status["syncs"] for each in sync["destinations"]]
        assert len(told) == 8
        assert {each["condition"] for each in told} == {"in sync"}
        assert ctl.run("status", "--check", "--max-lag", "60").returncode == 0
    assert not (tmp_path / "run/pylsyncd.sock").exists()
