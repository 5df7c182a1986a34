# bash completion for pylsyncd and pylsyncctl. Made by contrib/completion/generate.py.
#
# To install it: cp pylsyncd.bash /usr/share/bash-completion/completions/pylsyncd, and a symbolic
# link to it there that is called pylsyncctl; or read it from ~/.bashrc.

# What is typed, and what stands before it; bash makes three words of --option=value.
_pylsyncd_words() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

_pylsyncd_offer() { # OPTIONS OF COMPGEN...
    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
    case $1 in
    -f | -d) compopt -o filenames 2>/dev/null ;;
    esac
}

_pylsyncd() {
    local cur prev
    _pylsyncd_words
    case $prev in
    -c | --config) _pylsyncd_offer -f; return ;;
    --explain) _pylsyncd_offer -f; return ;;
    -x | --exclude) return ;;
    --exclude-from) _pylsyncd_offer -f; return ;;
    --include) return ;;
    --filter) return ;;
    --max-delete) return ;;
    -w | --window) return ;;
    --max-changes) return ;;
    --full-sync-interval) return ;;
    --poll-interval) return ;;
    --scan-interval) return ;;
    --rsync) _pylsyncd_offer -c; return ;;
    -e | --rsh) _pylsyncd_offer -c; return ;;
    --timeout) return ;;
    --bandwidth-limit) return ;;
    --password-file) _pylsyncd_offer -f; return ;;
    --batch-size-limit) return ;;
    --nice) return ;;
    --ionice) return ;;
    --rsync-option) return ;;
    --retry-first) return ;;
    --retry-longest) return ;;
    --retry-held) return ;;
    --hook-batch) _pylsyncd_offer -c; return ;;
    --hook-error) _pylsyncd_offer -c; return ;;
    --hook-recovery) _pylsyncd_offer -c; return ;;
    --hook-held) _pylsyncd_offer -c; return ;;
    --hook-timeout) return ;;
    --pidfile) _pylsyncd_offer -f; return ;;
    --user) _pylsyncd_offer -u; return ;;
    --group) _pylsyncd_offer -g; return ;;
    --chdir) _pylsyncd_offer -d; return ;;
    --umask) return ;;
    --state-dir) _pylsyncd_offer -d; return ;;
    --max-runs) return ;;
    --log-level) _pylsyncd_offer -W "error warning notice info debug"; return ;;
    --logfile) _pylsyncd_offer -f; return ;;
    --syslog-facility) return ;;
    --control) _pylsyncd_offer -f; return ;;
    --status-file) _pylsyncd_offer -f; return ;;
    --metrics-file) _pylsyncd_offer -f; return ;;
    --metrics-port) return ;;
    esac
    case $cur in
    -*) _pylsyncd_offer -W "-c --config --check-config --explain --check --checksum --once -n --dry-run -x --exclude --exclude-from --include --filter --no-delete --max-delete --modify -i --initial-sync -w --window --max-changes --full-sync-interval --poll-interval --scan-interval --rsync -e --rsh --no-share-ssh --timeout --bandwidth-limit --password-file --batch-size-limit --nice --ionice --rsync-option --retry-first --retry-longest --retry-held --hook-batch --hook-error --hook-recovery --hook-held --hook-timeout --daemon --foreground --pidfile --user --group --chdir --umask --state-dir --max-runs --log-level -d --debug -v --verbose -q --quiet --logfile -s --syslog --syslog-facility --control --status-file --metrics-file --metrics-port -h --help --version" ;;
    *) _pylsyncd_offer -d ;;
    esac
}

_pylsyncctl() {
    local cur prev word command=
    _pylsyncd_words
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        status | flush | sync | pause | resume | release | wait | log-level | reload) command=$word && break ;;
        esac
    done
    case $prev in
    -S | --socket) _pylsyncd_offer -f; return ;;
    --file) _pylsyncd_offer -f; return ;;
    --max-lag) return ;;
    --warn-lag) return ;;
    --timeout) return ;;
    esac
    case $command:$cur in
    :-*) _pylsyncd_offer -W "-h --help -S --socket --version" ;;
    :*) _pylsyncd_offer -W "status flush sync pause resume release wait log-level reload" ;;
    status:-*) _pylsyncd_offer -W "-h --help -S --socket --json --watch --file --check --max-lag --warn-lag" ;;
    flush:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    sync:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    pause:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    resume:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    release:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    wait:-*) _pylsyncd_offer -W "-h --help -S --socket --timeout" ;;
    log-level:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    reload:-*) _pylsyncd_offer -W "-h --help -S --socket" ;;
    log-level:*) _pylsyncd_offer -W "error warning notice info debug" ;;
    esac
}

complete -F _pylsyncd pylsyncd
complete -F _pylsyncctl pylsyncctl
