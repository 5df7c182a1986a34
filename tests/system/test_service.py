"""pylsyncd at home on a Debian 12: each test is a journey of an administrator, in this order.

``make system-test`` builds the package and runs them. They share one machine.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.waiting import wait_until
from system.environment import (
    CACHE,
    MIRROR,
    PACKAGE,
    needs_system_test,
    readme_block,
    readme_section,
)
from system.machine import Machine, booted, make_base_tree

pytestmark = needs_system_test

INSTALL = "cd /root && apt-get -qqy install ./pylsyncd_*_all.deb"
UNREACHABLE = "198.51.100.7"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = make_base_tree(CACHE, MIRROR)
    with booted(base, tmp_path_factory.mktemp("machine"), [Path(PACKAGE)]) as started:
        yield started


def configure(machine: Machine, text: str, name: str = "pylsyncd.conf") -> None:
    (machine.tree / "etc" / name).write_text(textwrap.dedent(text))


def start_with(machine: Machine, text: str) -> None:
    """Start the service with a configuration, and nothing that is known of earlier ones."""
    machine("systemctl stop pylsyncd 'pylsyncd@*'; rm -rf /srv/* /var/lib/pylsyncd/*")
    machine("mkdir -p /srv/one")
    configure(machine, text)
    machine("systemctl reset-failed; systemctl start pylsyncd")


ONE = """
    [pylsyncd]
    initial_sync = yes
    [sync one]
    source = /srv/one/./
    destinations = /srv/copy/
    window = 1
"""


def wait_until_equal(machine: Machine, source: str = "/srv/one", copy: str = "/srv/copy") -> None:
    machine.wait(f"diff -r {source} {copy}")


def statuses(machine: Machine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in machine("pylsyncctl status --json").splitlines()]


def main_pid(machine: Machine, unit: str = "pylsyncd") -> int:
    return int(machine(f"systemctl show --value -p MainPID {unit}"))


def journal(machine: Machine, unit: str = "pylsyncd") -> str:
    return machine(f"journalctl -u {unit} --no-pager -o cat -b")


def last_journal(machine: Machine) -> str:
    """Return what the process that runs has logged."""
    return machine(f"journalctl _PID={main_pid(machine)} --no-pager -o cat -b")


def test_the_package_is_installed_and_starts_nothing(machine: Machine) -> None:
    machine(INSTALL, 300)
    assert machine.run("systemctl is-enabled pylsyncd").stdout == "disabled\n"
    assert machine.run("systemctl is-active pylsyncd").stdout == "inactive\n"
    assert machine("systemctl --failed --quiet") == ""
    assert machine("pylsyncd --version").startswith("pylsyncd ")


def test_a_service_without_a_sync_is_refused_with_what_to_do(machine: Machine) -> None:
    assert machine.run("systemctl start pylsyncd").returncode == 1
    assert "There is no section [sync NAME]: add one" in journal(machine)
    machine("systemctl reset-failed pylsyncd")


def test_the_service_part_of_the_readme_works_word_for_word(machine: Machine) -> None:
    text = readme_section("Running as a service")
    machine(
        "mkdir -p /var/www /srv/replica; echo hello >/var/www/index.html; "
        "chown www-data: /srv/replica; echo '127.0.0.1 srv2' >>/etc/hosts; "
        "ssh-keygen -q -N '' -f /root/.ssh/id_ed25519 -t ed25519; mkdir -p /var/www/../wwwhome; "
        "usermod -s /bin/sh -d /var/wwwhome www-data; mkdir -p /var/wwwhome/.ssh; "
        "cp /root/.ssh/id_ed25519.pub /var/wwwhome/.ssh/authorized_keys; "
        "chown -R www-data: /var/wwwhome; ssh-keyscan srv2 >/root/.ssh/known_hosts 2>/dev/null"
    )
    # On one machine, the copy is in another directory.
    added = (
        readme_block(text, "[sync www]")
        .split("\n\n")[0]
        .replace("srv2:/var/www/", "srv2:/srv/replica/")
    )
    assert added.count("\n") == 2, "three lines are all"
    with (machine.tree / "etc/pylsyncd.conf").open("a") as file:
        file.write(f"\n{added}\n")
    commands = re.findall(r"^    ((?:pylsyncd|systemctl|pylsyncctl) .*)$", text, re.MULTILINE)[:3]
    assert commands[1] == "systemctl enable --now pylsyncd"
    checked = machine(commands[0])
    assert "www-data@srv2:/srv/replica/" in checked
    assert "warning" not in checked
    machine(commands[1])
    machine.wait("grep hello /srv/replica/index.html")
    machine("pylsyncctl wait --timeout 60")
    assert "in sync" in machine(commands[2])
    shown = machine("systemctl status pylsyncd")
    assert "Active: active (running)" in shown
    machine.wait("systemctl status pylsyncd | grep -q 'Status: \"1 destination, in sync\"'")
    assert "initial sync complete" in machine("journalctl -u pylsyncd --no-pager")
    machine("echo changed >/var/www/index.html; pylsyncctl wait --timeout 60")
    machine("grep changed /srv/replica/index.html; pylsyncctl status --check")


@pytest.mark.parametrize(
    "page", ["pylsyncd", "pylsyncctl", "pylsyncd.conf", "pylsyncd-lsyncd", "8 pylsyncd"]
)
def test_the_manual_opens(page: str, machine: Machine) -> None:
    shown = machine(f"man {page} | col -b")
    assert "NAME\n" in shown
    assert "SEE ALSO" in shown


def test_the_shell_completes(machine: Machine) -> None:
    load = ". /usr/share/bash-completion/bash_completion; "
    for command, words, expected in (
        ("pylsyncd", "pylsyncd --check-c", "--check-config"),
        ("pylsyncctl", "pylsyncctl rel", "release"),
    ):
        call = (
            f"_completion_loader {command} || :; COMP_WORDS=({words}) COMP_CWORD=1; "
            f"_{command}; echo ${{COMPREPLY[@]}}"
        )
        assert expected in machine(load + call)
    machine("test -s /usr/share/zsh/vendor-completions/_pylsyncd")


def test_a_reload_applies_a_good_file_and_refuses_a_faulty_one(machine: Machine) -> None:
    start_with(machine, ONE)
    wait_until_equal(machine)
    pid = main_pid(machine)
    two = ONE.replace("one", "two").replace("/srv/copy", "/srv/copy2").partition("[sync")[2]
    machine("mkdir /srv/two; touch /srv/two/f")
    configure(machine, f"{ONE}\n    [sync{two}")
    machine("systemctl reload pylsyncd")
    wait_until_equal(machine, "/srv/two", "/srv/copy2")
    configure(machine, ONE.replace("window = 1", "window = soon"))
    assert machine.run("systemctl reload pylsyncd").returncode != 0
    assert "soon" in journal(machine)
    assert main_pid(machine) == pid
    machine("systemctl is-active pylsyncd; touch /srv/two/g")
    wait_until_equal(machine, "/srv/two", "/srv/copy2")


def test_a_killed_daemon_is_restarted_and_misses_nothing(machine: Machine) -> None:
    start_with(machine, ONE)
    wait_until_equal(machine)
    pid = main_pid(machine)
    machine(f"kill -9 {pid}; echo x >/srv/one/meanwhile")
    machine.wait(f"test $(systemctl show --value -p MainPID pylsyncd) -gt 0 && ! kill -0 {pid}")
    wait_until_equal(machine)
    machine("pylsyncctl wait --timeout 30")


def test_the_watchdog_ends_a_daemon_that_stands_still(machine: Machine) -> None:
    drop_in = machine.tree / "etc/systemd/system/pylsyncd.service.d/watchdog.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=6\nRestartSec=1\n")
    machine("systemctl daemon-reload")
    start_with(machine, ONE)
    pid = main_pid(machine)
    machine(f"kill -STOP {pid}; touch /srv/one/meanwhile")
    machine.wait(f"journalctl -u pylsyncd -b | grep -i 'watchdog timeout' && ! kill -0 {pid}", 90)
    wait_until_equal(machine)
    drop_in.unlink()
    machine("systemctl daemon-reload")


def test_a_stop_during_a_transfer_ends_it_and_the_next_start_completes_it(
    machine: Machine,
) -> None:
    start_with(machine, f"{ONE}    bandwidth_limit = 300k\n")
    machine("head -c 40M /dev/urandom >/srv/large; mv /srv/large /srv/one")
    machine.wait("pgrep -x rsync")
    machine("time systemctl stop pylsyncd", 80)
    assert machine("systemctl show --value -p Result pylsyncd") == "success\n"
    assert machine.run("pgrep -x rsync").returncode == 1
    assert machine.run("test -e /srv/copy/large").returncode == 1, "no part of it is published"
    configure(machine, ONE)
    machine("systemctl start pylsyncd")
    wait_until_equal(machine)


def test_a_restart_during_the_initial_sync_loses_nothing_and_leaves_no_rsync(
    machine: Machine,
) -> None:
    start_with(machine, f"{ONE}    bandwidth_limit = 400k\n")
    machine("for i in $(seq 400); do head -c 20000 /dev/urandom >/srv/one/$i; done")
    machine("systemctl restart pylsyncd")
    machine.wait("pgrep -x rsync && ls /srv/copy/*1*")
    machine("echo new >/srv/one/1; rm /srv/one/2; mv /srv/one/3 /srv/one/30000")
    machine("systemctl restart pylsyncd; rm /srv/one/4; echo new >/srv/one/399")
    assert "Result=success" in machine("systemctl show -p Result pylsyncd")
    configure(machine, ONE)
    machine("systemctl restart pylsyncd; pylsyncctl wait --timeout 60; systemctl stop pylsyncd")
    machine("diff -r /srv/one /srv/copy")
    assert machine.run("pgrep -x rsync || ls -d /srv/copy/.[!.]*").stdout == ""


def test_a_stop_while_rsync_hangs_ends_it_in_time(machine: Machine) -> None:
    hanging = machine.tree / "usr/local/bin/hanging-rsync"
    hanging.write_text(
        "#!/bin/sh\ntrap '' HUP INT TERM\nrsync \"$@\"\nstatus=$?\n"
        "while touch /tmp/ended && test -e /tmp/hang; do sleep 0.1; done\nexit $status\n"
    )
    hanging.chmod(0o755)
    start_with(
        machine,
        ONE.replace("initial_sync", f"rsync = /usr/local/bin/{hanging.name}\n    initial_sync"),
    )
    machine("touch /srv/one/before; pylsyncctl wait --timeout 30; rm /tmp/ended")
    machine("touch /tmp/hang /srv/one/new")
    machine.wait("test -e /tmp/ended")
    machine("systemctl stop pylsyncd", 80)
    assert machine.run("pgrep -x hanging-rsync").returncode == 1
    assert machine("systemctl show --value -p Result pylsyncd") == "success\n"
    assert "stopped before everything was synced. Pending: " in journal(machine)
    machine("rm /tmp/hang; systemctl start pylsyncd; pylsyncctl wait --timeout 30")
    machine("diff -r /srv/one /srv/copy")


def test_fanotify_needs_the_drop_in_and_root_and_otherwise_the_journal_says_so(
    machine: Machine,
) -> None:
    start_with(machine, ONE.replace("initial_sync = yes", "watch = fanotify"))
    fallback = "is watched by inotify: fanotify is not possible (it needs CAP_SYS_ADMIN"
    assert f"The source /srv/one {fallback}" in last_journal(machine)
    drop_ins = "/etc/systemd/system/pylsyncd.service.d"
    examples = "/usr/share/doc/pylsyncd/contrib/systemd"
    machine(
        f"mkdir -p /mnt/tree {drop_ins}; cp {examples}/pylsyncd-fanotify.conf {drop_ins}; "
        "systemctl daemon-reload; mount -t tmpfs tmpfs /mnt/tree; mkdir /mnt/tree/one /mnt/tree/two"
    )
    marked = ONE.replace("/srv/one", "/mnt/tree/one").replace(
        "[sync", "watch = fanotify\n    [sync"
    )
    start_with(machine, marked)
    assert "watching /mnt/tree/one (by fanotify) for one/copy" in last_journal(machine)
    machine("cd /mnt/tree/one; mkdir -p a/b; mv a c; touch c/b/f; pylsyncctl wait --timeout 30")
    machine("diff -r /mnt/tree/one /srv/copy")
    added = "[sync two]\nsource = /mnt/tree/two/./\ndestinations = /srv/copy2/\n"
    configure(machine, textwrap.dedent(marked) + added)
    machine("touch /mnt/tree/two/f; systemctl reload pylsyncd")
    machine.wait("test -e /srv/copy2/f")
    assert "watching /mnt/tree/two (by fanotify) for two/copy2" in last_journal(machine)
    machine("cd /mnt/tree; touch one/g two/g; pylsyncctl wait --timeout 30; diff two /srv/copy2")
    machine("chown www-data: /mnt/tree/one /mnt/tree/two")
    of_user = marked.replace("/srv/copy", "/mnt/tree/two")
    start_with(machine, of_user.replace("[sync", "user = www-data\n    [sync"))
    assert f"{fallback} and CAP_DAC_READ_SEARCH: run pylsyncd as root" in last_journal(machine)
    machine("touch /mnt/tree/one/h; pylsyncctl wait --timeout 30")
    machine("diff -r /mnt/tree/one /mnt/tree/two; systemctl stop pylsyncd; umount /mnt/tree")
    machine(f"rm {drop_ins}/pylsyncd-fanotify.conf; systemctl daemon-reload")


def test_a_reload_with_a_sync_without_its_source_is_complete_once_that_is_mounted(
    machine: Machine,
) -> None:
    start_with(machine, ONE)
    late = "[sync late]\nsource = /srv/disk/www/./\ndestinations = /srv/latecopy/\nwindow = 1\n"
    configure(machine, f"{textwrap.dedent(ONE)}{late}")
    machine("mkdir -p /srv/latecopy /srv/disk; touch /srv/latecopy/kept; systemctl reload pylsyncd")
    machine.wait("pylsyncctl status | grep 'has failed: The sync late is held: the source'")
    assert "The source /srv/disk/www does not exist. Its sync starts when" in journal(machine)
    machine("test -e /srv/latecopy/kept; mount -t tmpfs tmpfs /srv/disk; mkdir /srv/disk/www")
    machine("touch /srv/disk/www/f")
    wait_until_equal(machine, "/srv/disk/www", "/srv/latecopy")
    machine.wait("pylsyncctl status --check")
    assert "has failed" not in machine("pylsyncctl status; systemctl stop pylsyncd")
    machine("umount /srv/disk")


def test_a_reboot_loses_nothing(machine: Machine) -> None:
    start_with(machine, ONE.replace("window = 1", "window = 600"))
    machine("pylsyncctl wait --timeout 30; systemctl enable pylsyncd; echo x >/srv/one/last")
    machine.reboot()
    machine("systemctl is-active pylsyncd")
    assert "window 600 s" in journal(machine)
    wait_until_equal(machine)
    assert "clock" not in journal(machine)


def test_a_source_that_is_mounted_after_the_boot_is_waited_for(machine: Machine) -> None:
    start_with(
        machine,
        f"""{ONE}
    [sync late]
    source = /srv/disk/www/./
    destinations = /srv/latecopy/
    window = 1
    """,
    )
    machine("mkdir -p /srv/disk /srv/real/www /srv/latecopy; touch /srv/real/www/f /srv/latecopy/k")
    machine("systemctl enable pylsyncd")
    machine.reboot()
    machine("systemctl is-active pylsyncd; touch /srv/one/new")
    wait_until_equal(machine)
    assert "/srv/disk/www" in journal(machine)
    machine("test -e /srv/latecopy/k")
    assert machine.run("pylsyncctl status --check").returncode != 0
    machine("mount --bind /srv/real /srv/disk")
    wait_until_equal(machine, "/srv/real/www", "/srv/latecopy")
    machine("umount -l /srv/disk; test -e /srv/latecopy/f")


def test_a_destination_whose_disk_is_not_mounted_at_the_boot_is_waited_for(
    machine: Machine,
) -> None:
    start_with(machine, ONE.replace("/srv/copy/", "/srv/backup/copy/"))
    machine("pylsyncctl wait --timeout 30; systemctl stop pylsyncd; rm -r /srv/backup/*")
    machine("cp /etc/fstab /etc/fstab.before; echo 'none /srv/backup tmpfs nofail' >>/etc/fstab")
    machine("echo new >/srv/one/f; systemctl start pylsyncd")
    machine.wait("pylsyncctl status | grep 'nothing is mounted at /srv/backup, unlike in /etc/fst'")
    machine('test -z "$(ls /srv/backup)"; mount /srv/backup')
    wait_until_equal(machine, copy="/srv/backup/copy")
    machine("pylsyncctl wait --timeout 30; systemctl stop pylsyncd; umount /srv/backup")
    machine("mv /etc/fstab.before /etc/fstab; systemctl daemon-reload")


def test_an_unreachable_host_delays_no_other_and_fills_no_journal(machine: Machine) -> None:
    # Nothing answers at the other end, as behind a firewall.
    machine(
        "ip link set lo up; ip link add away type veth peer name nobody; ip link set nobody up; "
        "ip addr add 198.51.100.1/24 dev away; ip link set away up; "
        f"ip neigh add {UNREACHABLE} lladdr 02:00:00:00:00:01 dev away"
    )
    start_with(
        machine, ONE.replace("/srv/copy/", f"\n        /srv/copy/\n        {UNREACHABLE}:/x/")
    )
    wait_until_equal(machine)
    machine("touch /srv/one/new")
    wait_until_equal(machine)
    machine.wait("pylsyncctl status | grep -i 'timed out'", 90)
    assert UNREACHABLE in machine("journalctl -u pylsyncd -b -p warning -o cat --no-pager")
    lines = [line for line in journal(machine).splitlines() if UNREACHABLE in line]
    assert len(lines) < 8, "\n".join(lines)
    assert machine.run("pylsyncctl status --check").returncode == 1
    machine("systemctl stop pylsyncd; ip link del away", 100)


def test_an_instance_keeps_its_socket_when_the_other_service_restarts(machine: Machine) -> None:
    start_with(machine, ONE)
    machine("mkdir /srv/web")
    web = ONE.replace("one", "web").replace("/srv/copy/", "/srv/webcopy/")
    configure(machine, web, "pylsyncd/web.conf")
    machine("systemctl start pylsyncd@web")
    for _ in range(2):
        assert len(statuses(machine)) == 2
        machine("touch /srv/web/f$RANDOM; pylsyncctl flush webcopy; pylsyncctl wait --timeout 30")
        machine("diff -r /srv/web /srv/webcopy; systemctl restart pylsyncd")
    machine("systemctl stop pylsyncd@web")
    assert len(statuses(machine)) == 1
    machine("pylsyncctl status --check")


def test_a_user_of_the_configuration_goes_on_with_what_root_has_left(machine: Machine) -> None:
    start_with(machine, ONE.replace("/srv/copy", "/srv/copies/copy"))
    machine("chown www-data: /srv/one; mkdir -p /srv/copies; chown www-data: /srv/copies")
    wait_until_equal(machine, copy="/srv/copies/copy")
    machine("pylsyncctl wait --timeout 30; systemctl stop pylsyncd; touch /srv/one/meanwhile")
    # As it is where something has created it for root alone.
    machine("chmod 700 /run/pylsyncd")
    of_user = ONE.replace("/srv/copy", "/srv/copies/copy")
    configure(machine, of_user.replace("initial_sync = yes", "user = www-data"))
    machine("pylsyncd --check-config -c /etc/pylsyncd.conf; systemctl start pylsyncd")
    for _ in range(2):
        assert machine(f"ps -o user= -p {main_pid(machine)}") == "www-data\n"
        wait_until_equal(machine, copy="/srv/copies/copy")
        machine("pylsyncctl wait --timeout 30; systemctl restart pylsyncd")
    # Beside one that runs as root, with the same state directory of systemd.
    configure(machine, ONE.replace("one", "web").replace("/copy/", "/x/"), "pylsyncd/web.conf")
    machine("mkdir /srv/web; touch /srv/web/f; systemctl start pylsyncd@web")
    machine("systemctl restart pylsyncd; touch /srv/one/g /srv/web/g")
    machine("pylsyncctl wait --timeout 30; diff -r /srv/web /srv/x; systemctl stop pylsyncd@web")
    wait_until_equal(machine, copy="/srv/copies/copy")


def test_the_user_of_a_unit_gets_the_state_as_well(machine: Machine) -> None:
    start_with(machine, ONE.replace("/srv/copy", "/srv/copies/copy"))
    machine("chown www-data: /srv/one; mkdir -p /srv/copies; chown www-data: /srv/copies")
    drop_in = machine.tree / "etc/systemd/system/pylsyncd.service.d/user.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nUser=www-data\n")
    machine("pylsyncctl wait --timeout 30; systemctl daemon-reload; systemctl restart pylsyncd")
    assert machine(f"ps -o user= -p {main_pid(machine)}") == "www-data\n"
    machine("touch /srv/one/new; pylsyncctl wait --timeout 30; diff -r /srv/one /srv/copies/copy")
    drop_in.unlink()
    machine("systemctl daemon-reload; systemctl restart pylsyncd; pylsyncctl wait --timeout 30")


def test_the_log_file_is_rotated_as_root_and_as_another_user(machine: Machine) -> None:
    logged = "logfile = /var/log/pylsyncd.log\n    log_level = info\n    user = "
    copied = ONE.replace("/copy/", "/c/c/")
    check = "pylsyncd --check-config -c /etc/pylsyncd.conf"
    for user in ("root", "www-data"):
        start_with(machine, copied.replace("initial_sync = yes", f"{logged}{user}"))
        machine("chown www-data: /srv/one; mkdir -p /srv/c; chown www-data: /srv/c")
        if user == "www-data":
            # What root has made is to be given away.
            advice = re.search(r"run (chown www-data /var/log/pylsyncd\.log)\.", machine(check))
            assert advice
            machine(f"{advice[1]}; {check} | grep -vz warning; systemctl restart pylsyncd")
        machine("pylsyncctl wait --timeout 30 || :; logrotate -f /etc/logrotate.d/pylsyncd")
        machine.wait("touch /srv/one/$RANDOM; sleep 1; grep -q synced /var/log/pylsyncd.log")
        machine("grep -q watching /var/log/pylsyncd.log.1; systemctl stop pylsyncd")
    machine("rm /var/log/pylsyncd.log*")


def test_metrics_are_served_with_the_package_that_debian_has(machine: Machine) -> None:
    machine("apt-get -qqy install python3-prometheus-client", 300)
    start_with(machine, ONE.replace("initial_sync = yes", "metrics_port = 9469"))
    code = (
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9469/{}').read().decode())"
    )
    shown = machine(f'python3 -c "{code.format("metrics")}"')
    assert "pylsyncd_in_sync{destination=" in shown
    assert "copy" in machine(f'python3 -c "{code.format("")}"')
    assert journal(machine).count("Traceback") == 0


def test_the_init_script_starts_the_service_of_systemd_or_a_daemon_without_it(
    machine: Machine,
) -> None:
    start_with(machine, ONE)
    machine("systemctl stop pylsyncd; /etc/init.d/pylsyncd start; systemctl is-active pylsyncd")
    machine("/etc/init.d/pylsyncd stop")
    alone = "export SYSTEMCTL_SKIP_REDIRECT=1; script=/etc/init.d/pylsyncd; "
    logged = "logfile = /var/log/pylsyncd.log\n    user = www-data"
    configure(machine, ONE.replace("initial_sync = yes", logged))
    machine(f"{alone} $script start; $script status; touch /srv/one/f")
    machine("chown www-data: /srv; pylsyncctl status")
    machine(f"{alone} kill -9 $(cat /run/pylsyncd.pid); sleep 1; $script status || test $? = 1")
    machine(f"{alone} $script stop; $script status || test $? = 3; ! test -e /run/pylsyncd.pid")
    machine("chown root: /srv")


def test_an_upgrade_restarts_what_runs_and_keeps_the_configuration(machine: Machine) -> None:
    start_with(machine, ONE)
    machine("mkdir /srv/web; systemctl start pylsyncd@web")
    before = {unit: main_pid(machine, unit) for unit in ("pylsyncd", "pylsyncd@web")}
    machine(f"{INSTALL} --reinstall", 300)
    for unit, pid in before.items():
        assert main_pid(machine, unit) not in {0, pid}
    assert (machine.tree / "etc/pylsyncd.conf").read_text() == textwrap.dedent(ONE)
    machine("systemctl stop pylsyncd@web")


def test_a_removal_stops_all_and_a_purge_leaves_only_what_the_administrator_wrote(
    machine: Machine,
) -> None:
    start_with(machine, ONE)
    machine("systemctl start pylsyncd@web || :; touch /var/log/pylsyncd.log.1")
    machine("apt-get -qqy remove pylsyncd")
    wait_until(lambda: machine.run("pgrep -f bin/pylsyncd").returncode == 1)
    machine("test -s /etc/pylsyncd.conf; test -e /var/lib/pylsyncd")
    machine("apt-get -qqy purge pylsyncd")
    # Drop-ins and configurations that these tests wrote, as an administrator does.
    left = machine(
        "find / -xdev -name '*pylsyncd*' -not -path '/root/*' -not -path '/var/cache/man/*'"
    )
    assert set(left.split()) <= {"/etc/pylsyncd", "/etc/systemd/system/pylsyncd.service.d"}
    assert machine("find /etc/pylsyncd -type f") == "/etc/pylsyncd/web.conf\n"
    assert machine("systemctl --failed --quiet") == ""
