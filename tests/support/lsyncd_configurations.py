"""Configurations of lsyncd, and what a configuration of pylsyncd must have for them.

``@`` is a directory with the sources ``src``, ``www`` and ``home``, the file ``rules``, and the
directory ``run``.
"""

from typing import NamedTuple


class Example(NamedTuple):
    """A configuration, and lines of the result; those of comments without their wrapping."""

    lua: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


NO_ATTRIBUTES = (
    "    --no-perms", "    --no-owner", "    --no-group", "    --no-devices", "    --no-specials",
)  # fmt: skip
SHELL_OPTIONS = (
    "-o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
)

EXAMPLES = {
    "rsync": Example(
        """
        settings { logfile = "@/run/log", statusFile = "@/run/status", nodaemon = true }
        sync { default.rsync, source = "@/src", target = "@/copy" }
        """,
        (
            "daemon = no", "logfile = @/run/log", "status_file = @/run/status", "[sync src]",
            "source = @/src/./", "destinations = @/copy", "window = 15", "initial_sync = yes",
            *NO_ATTRIBUTES,
        ),
        absent=("syslog", "delete"),
    ),
    "settings-as-a-variable": Example(
        """
        settings = { statusFile = "@/run/status", statusInterval = 1, maxProcesses = 3, delay = 5 }
        sync { default.rsync, source = "@/src/", target = "backup::src",
            rsync = { archive = true } }
        """,
        (
            "daemon = yes", "syslog = yes", "max_runs = 3", "window = 5",
            "destinations = backup::src",
        ),
        ("Not needed: statusInterval = 1.",),
        ("rsync_option",),
    ),
    "all-settings": Example(
        """
        settings {
            logfile = "@/run/log", pidfile = "@/run/pid", logfacility = "LOCAL3", logident = "mine",
            insist = true, inotifyMode = "CloseWrite or Modify", maxProcesses = 2, maxDelays = 2000,
            unheard = { 1, 2 },
        }
        sync { default.rsync, source = "@/src", target = "srv2:/copy/" }
        """,
        (
            "pidfile = @/run/pid", "syslog_facility = local3", "syslog = yes", "modify = yes",
            "max_runs = 2", "max_changes = 2000",
        ),
        (
            "Not needed: insist = true.", 'Left out: logident = "mine".',
            "Left out: unheard = {1, 2}. It is not known.",
        ),
    ),
    "directories-that-are-missing": Example(
        """
        settings { logfile = "@/no/log", pidfile = "@/no/pid", statusFile = "@/no/status" }
        sync {
            default.rsync, source = "@/src", target = "srv2:/copy/", excludeFrom = "@/no/rules",
            rsync = { binary = "/no/rsync", password_file = "@/no/password", rsh = "/no/ssh -p 3" },
        }
        """,
        ("syslog = yes",),
        (
            "Left out: logfile", "Left out: pidfile", "Left out: statusFile",
            "Left out: excludeFrom", "Left out: rsync.binary", "Left out: rsync.password_file",
            "Left out: rsync.rsh",
        ),
        ("rsync =", "rsh =", "password_file =", "exclude_from ="),
    ),
    "rsyncssh": Example(
        """
        sync {
            default.rsyncssh, source = "@/www", host = "www-data@srv2", targetdir = "~/www/",
            rsync = { archive = true, compress = true },
            ssh = {
                port = 2222, identityFile = "/root/my key",
                options = { StrictHostKeyChecking = false, ProxyJump = "gate" }, _extra = { "-4" },
            },
            xargs = { binary = "/usr/bin/xargs" },
        }
        """,
        (
            "destinations = www-data@srv2:www/", "rsync_option = --compress",
            "rsh = ssh -p 2222 -i '/root/my key' -o ProxyJump=gate -o StrictHostKeyChecking=no -4 "
            + SHELL_OPTIONS,
        ),
        ("Left out: xargs",),
    ),
    "rsyncssh-with-batch-mode": Example(
        """
        sync {
            default.rsyncssh, source = "@/www", host = "srv2", targetdir = "/www",
            ssh = { options = { "batchmode=no", "ConnectTimeout=5" } },
        }
        """,
        (
            "destinations = srv2:/www",
            "rsh = ssh -o batchmode=no -o ConnectTimeout=5 " + SHELL_OPTIONS.partition("=30 ")[2],
        ),
    ),
    "direct": Example(
        """
        sync { default.direct, source = "@/src/", target = "@/copy/", delay = 0, init = false }
        """,
        ("destinations = @/copy/", "window = 0.1"),
        ("lsyncd acts at once",),
        ("initial_sync",),
    ),
    "several-targets-in-a-loop": Example(
        """
        local hosts = { "srv2", "srv3", "srv4" }
        for index = 1, #hosts do
            sync {
                default.rsyncssh, source = "@/www", host = "www-data@" .. hosts[index],
                targetdir = "/var/www", delay = 5, exclude = { "*.tmp" },
            }
        end
        for _, name in pairs { "home" } do
            sync { default.rsync, source = "@/" .. name, target = ("vault::%s/"):format(name) }
        end
        """,
        (
            "[sync www]", "destinations =", "    www-data@srv2:/var/www",
            "    www-data@srv3:/var/www", "    www-data@srv4:/var/www", "window = 5",
            "[sync home]", "destinations = vault::home/",
        ),
    ),
    "one-source-with-different-settings": Example(
        """
        sync { default.rsync, source = "@/www", target = "srv2:/www", delay = 1 }
        sync { default.rsync, source = "@/www", target = "srv3:/www", delay = 2 }
        sync { default.rsync, source = "@/www", target = "@/copy", delay = 3 }
        """,
        (
            "[sync www]", "[sync www-srv3]", "[sync www-2]", "window = 1", "window = 2",
            "window = 3",
        ),
    ),
    "inherited-settings": Example(
        """
        base = { default.rsync, delay = 3, rsync = { archive = true, compress = true } }
        web = { base, exclude = { "/cache/" } }
        copied = {}
        for key, value in pairs(default.rsyncssh) do copied[key] = value end
        sync { web, source = "@/www", target = "srv2:/www",
            rsync = { compress = false, acls = true } }
        sync { copied, source = "@/home", host = "srv2", targetdir = "/home" }
        """,
        (
            "window = 3", "exclude = /cache/", "rsync_option = --acls",
            "destinations = srv2:/home", "window = 15",
        ),
        absent=("--compress",),
    ),
    "excludes": Example(
        """
        sync {
            default.rsync, source = "@/src", target = "srv2:/src",
            exclude = { "*.tmp", "/cache/", "#*#", ".git/**", "a b", "a\\nb", 7 },
            excludeFrom = "@/rules",
        }
        """,
        (
            "    *.tmp", "    /cache/", "    [#]*#", "    .git/**", "    a b", "    7",
            "exclude_from = @/rules",
        ),
        ('Left out: exclude = "a\\nb". It has a control character',),
    ),
    "filters": Example(
        """
        sync {
            default.rsync, source = "@/src", target = "srv2:/src", exclude = "*.o",
            filter = { "+ /keep/", "- /*", "P /own", "merge /etc/rules", ": .rules" },
            filterFrom = "@/rules",
            rsync = { filter = { "H /hidden" }, exclude = { "*.bak" }, excludeFrom = "@/rules" },
        }
        """,
        (
            "filter =", "    + /keep/", "    - /*", "    P /own", "    - *.swp", "    H /hidden",
            "exclude =", "    *.o", "    *.bak", "exclude_from = @/rules",
        ),
        ('Left out: filter = "merge /etc/rules".', 'Left out: filter = ": .rules".'),
    ),
    "extra-options": Example(
        """
        sync {
            default.rsync, source = "@/src", target = "srv2:/src",
            rsync = { _extra = {
                "--omit-dir-times", "--bwlimit=500", "--exclude", "*.iso", "--temp-dir", "/var/tmp",
                "-aHz", "-e", "ssh -p 23", "--update", "--delete-after", "--log-file", "-x", "word",
                "--numeric-ids", "--timeout=0", "-Q", "--chmod",
            } },
        }
        """,
        (
            "    --omit-dir-times", "bandwidth_limit = 500", "exclude = *.iso",
            "    --temp-dir=/var/tmp", "    --hard-links", "    --compress", "    --numeric-ids",
            "    --log-file=-x", "rsh = ssh -p 23 " + SHELL_OPTIONS,
        ),
        (
            'rsync._extra = "--update". With it, the copy would differ', 'rsync._extra = "word".',
            'rsync._extra = "--delete-after".', "What -Q does is not known.",
            'Not needed: rsync._extra = "0".', 'rsync._extra = "--chmod". Its argument is missing.',
        ),
        NO_ATTRIBUTES,
    ),
    "old-options": Example(
        """
        settings = { nodaemon = false }
        sync {
            default.rsyncssh, source = "@/src", host = "user@srv2", targetdir = "@/src",
            rsyncBinary = "/usr/bin/rsync", rsyncOpts = { "-rltusogp" },
        }
        sync { default.rsync, source = "@/home", target = "srv2:/home", rsyncOps = "-az" }
        """,
        ("rsync = /usr/bin/rsync", "    --no-devices", "    --no-specials",
         "rsync_option = --compress"),
        ('rsyncOpts = "--update".',),
        ("--no-perms",),
    ),
    "options-of-rsync": Example(
        """
        sync {
            default.rsync, source = "@/src", target = "backup::src",
            batchSizeLimit = 30 * 1024 ^ 2,
            rsync = {
                binary = "/usr/bin/rsync", acls = true, xattrs = true, hard_links = true,
                sparse = true, whole_file = false, checksum = true, ipv4 = true, perms = true,
                owner = true,
                group = true, chmod = "D755,F644", chown = "www-data:www-data", backup = true,
                backup_dir = "/old", suffix = ".old", rsync_path = "sudo rsync", bwlimit = 2000,
                timeout = 60, inplace = true, update = true, existing = false, copy_links = true,
                links = false, times = false, protect_args = true, verbose = true, dry_run = true,
                cvs_exclude = true, one_file_system = true, temp_dir = "/var/tmp", unheard = 1,
            },
        }
        """,
        (
            "rsync = /usr/bin/rsync", "    --acls", "    --xattrs", "    --sparse",
            "    --hard-links", "    --checksum", "    --ipv4", "    --chmod=D755,F644",
            "    --chown=www-data:www-data", "    --backup", "    --backup-dir=/old",
            "    --suffix=.old", "    --rsync-path=sudo rsync", "bandwidth_limit = 2000",
            "timeout = 60", "    --no-links", "    --temp-dir=/var/tmp", "    --no-devices",
            "batch_size_limit = 31457280",
        ),
        (
            "rsync.inplace", 'rsync.update = "--update".', "rsync.copy_links", "rsync.times",
            "rsync.dry_run", "rsync.cvs_exclude", "rsync.one_file_system", "rsync.unheard",
        ),
        ("--no-perms", "--whole-file", "--inplace"),
    ),
    "deletions": Example(
        """
        for index, when in ipairs { true, false, "startup", "running", "never" } do
            sync {
                default.rsync, source = "@/src", target = "srv" .. index .. ":/src", delete = when,
            }
        end
        sync {
            default.rsync, source = "@/home", target = "srv1:/home",
            delete = "startup", init = false,
        }
        """,
        ("delete = no", "delete = startup", "delete = running"),
        ('Left out: delete = "never".', "lsyncd never deletes with"),
    ),
    "other-settings-of-a-sync": Example(
        """
        sync {
            default.rsync, source = "@/src", target = "rsync://localhost:5432/src", maxDelays = 10,
            maxProcesses = 4, crontab = { "1 0 3 * * *" }, exitcodes = { [23] = "again" },
            tunnel = tunnel { command = { "ssh", "-N", "-L",
                "localhost:5432:localhost:873", "gate" } },
            onMove = true, init = function(event) spawn(event, "/bin/true") end,
        }
        sync {
            default.rsync, source = "@/home", target = "rsync://localhost:^localport/home",
            tunnel = tunnel { mode = "pool", command = { "ssh" } },
        }
        """,
        ("max_changes = 10", "destinations = rsync://localhost:5432/src", "#[sync home]"),
        (
            "max_changes ends a window early.", "Left out: maxProcesses = 4.", "Left out: crontab",
            "Left out: exitcodes", "Left out: tunnel = {", "Left out: onMove = true.",
            "Left out: init = a function.",
        ),
    ),
    "layer-3": Example(
        """
        bash = {
            delay = 5, maxProcesses = 3,
            onCreate = "cp -r ^sourcePathname ^targetPathname",
            onModify = "/bin/cp ^sourcePathname ^targetPathname",
            onDelete = "rm -rf ^targetPathname",
            onMove = "mv ^o.targetPathname ^d.targetPathname",
            onStartup = [[if [ "$(ls -A ^source)" ]; then
                cp -r ^source* ^target
            fi]],
        }
        sync { bash, source = "@/src", target = "@/copy" }
        """,
        ("[sync src]", "destinations = @/copy", "window = 5", "delete = running",
         "initial_sync = yes"),
        ('onCreate = "cp -r ^sourcePathname ^targetPathname".', "hook_batch = COMMAND",
         "lsyncd runs commands of this configuration here, to copy to the target."),
    ),
    "layer-3-without-deletions": Example(
        """
        sync { { onCreate = "cp ^sourcePathname ^target" }, source = "@/src", target = "@/copy" }
        """,
        ("delete = no",),
        absent=("initial_sync",),
    ),
    "layer-2-beside-layer-4": Example(
        """
        convert = {
            onCreate = function(event)
                log("Normal", "got it")
                if string.ends(event.pathname, ".ps") then
                    spawn(event, "/usr/bin/ps2pdf", event.sourcePath)
                end
            end,
        }
        sync { convert, source = "@/src", subdirs = false }
        sync { default.rsync, source = "@/src", target = "srv2:/src" }
        """,
        ("#[sync src]", "#source = @/src/./", "#destinations = DESTINATION", "[sync src-srv2]"),
        ("Left out: onCreate = a function.", "Left out: subdirs = false.",
         "whether that is a copy is not known"),
    ),
    "targets-that-pylsyncd-refuses": Example(
        """
        sync { default.rsync, source = "@/src", target = "srv2:/a" }
        sync { default.rsync, source = "@/src", target = "srv2:/a/", delay = 1 }
        sync { default.rsync, source = "@/www", target = "srv2:/a" }
        sync { default.rsync, source = "@/www", target = "@/www/copy" }
        sync { default.rsync, source = "@/www", target = "copy" }
        sync { default.rsync, source = "@/www" }
        sync { default.rsync, target = "srv2:/b" }
        """,
        ("[sync src]", "#[sync src-srv2]", "[sync www-3]", "destinations = ./copy"),
        (
            "Another sync has the same source and target.", "Another sync has the same target:",
            "It is inside the source:", "A target without a slash is a host for pylsyncd",
            "Left out: target = nil.", "Left out: source = nil.",
        ),
    ),
    "computed": Example(
        """
        #!/usr/bin/lsyncd
        local function read(path)
            for line in io.lines(path) do return line end
        end
        local first = read("@/rules")
        local home = os.getenv("HOME") or "/root"
        assert(type(home) == "string" and _G.sync == sync and math.max(1, 2) == 2)
        dofile("@/included.lua")
        sync(setmetatable({ default.rsync, source = "@/src", target = host .. ":/src",
            exclude = { first:match("%S+$") } }, {}))
        """.lstrip(),
        ("destinations = included:/src", "exclude = *.swp"),
    ),
}  # fmt: skip
