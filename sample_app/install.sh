# Steps that sample_app/run and tests/run share. Sourced by them, not run by itself.
# Everything is said on standard error, so that standard output stays the caller's.

PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

# install_packages COMMAND:PACKAGE ... - install the Debian packages whose commands are missing.
# "venv" stands for Python's own modules, which Debian ships in a package of its own; "postgres" is a program that
# Debian keeps out of the path, "libfaketime" a library. The lab has servers of its own: Debian's shall not start one for the machine.
install_packages() {
    local need missing=()
    for need; do
        case ${need%%:*} in
        venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
        libfaketime) compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null ;;
        *) command -v "${need%%:*}" >/dev/null ;;
        esac || missing+=("${need#*:}")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}. They are installed here with apt-get, which is not there."
    ((EUID == 0)) || fail "missing Debian packages: ${missing[*]}. Run as root, or: sudo apt-get install ${missing[*]}"
    say "Installing Debian packages that are missing: ${missing[*]}"
    if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/hsmx-lab.conf
    fi
    # conntrackd lets guests' connections survive a fail-over. The lab starts its own; the package's is not to start.
    if [[ " ${missing[*]} " == *" conntrackd "* && ! -e /etc/systemd/system/conntrackd.service ]]; then
        mkdir -p /etc/systemd/system
        ln -s /dev/null /etc/systemd/system/conntrackd.service
    fi
    # The arbiter's tests start an etcd of their own; the package's is not to start for the machine.
    if [[ " ${missing[*]} " == *" etcd-server "* && ! -e /etc/systemd/system/etcd.service ]]; then
        mkdir -p /etc/systemd/system
        ln -s /dev/null /etc/systemd/system/etcd.service
    fi
    # Gateways have an sshd of their own in the lab; the package's is not to start for the machine.
    if [[ " ${missing[*]} " == *" openssh-server "* && ! -e /etc/systemd/system/ssh.service ]]; then
        mkdir -p /etc/systemd/system
        ln -s /dev/null /etc/systemd/system/ssh.service
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
        >/dev/null || fail "apt-get could not install: ${missing[*]}"
}

# prepare_python REPOSITORY EXTRAS - make the virtual environment with the package and its extras in it.
# Sets $venv. (The lab lets its unprivileged users read both, even below a closed directory such as /root.)
prepare_python() {
    local repository=$1 extras=$2 stamp
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or later is needed, this is $(python3 -V)."
    venv=${HSMX_VENV:-$repository/.venv}
    mkdir -p "$venv"
    exec {lock}>"$venv/lock"
    flock "$lock" # Somebody may have started the demo and the tests at once.
    stamp=$extras-$(cd "$repository" && find setup.cfg pyproject.toml flask_hsmx_cluster -type f ! -name '*.pyc' -print0 |
        sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
    if [[ ! -e $venv/stamp-$stamp ]]; then
        say "Installing the package with its extras [$extras] into $venv"
        [[ -x $venv/bin/python ]] || (umask 022 && python3 -m venv "$venv") || fail "the virtual environment could not be made"
        (umask 022 && "$venv/bin/pip" install --quiet --disable-pip-version-check "$repository[$extras]") >&2 ||
            fail "pip could not install the package"
        rm -rf "$repository/build" "$venv/stamp-$extras-"*
        touch "$venv/stamp-$stamp"
    fi
    exec {lock}>&-
    if [[ -n $(find "$repository/flask_hsmx_cluster" "$repository/sample_app" -name '*.py' ! -perm -o=r -print -quit) ]]; then
        fail "other users cannot read the files here; the lab's gateways are other users: chmod -R go+rX '$repository'"
    fi
    # The gateways' own users cannot write here; so that they start fast, it is compiled for them.
    [[ ! -w $repository ]] || "$venv/bin/python" -m compileall -q "$repository/flask_hsmx_cluster" "$repository/sample_app"
}
