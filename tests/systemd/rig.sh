#!/bin/bash
# A real system manager as PID 1 of a PID namespace, over a copy-on-write view of this machine, with
# a network of its own. It lives until standard input ends, whatever ended the one who held it.
#
#   rig.sh FROM:TO...     files and folders of this machine to see inside, absolute, without colons
#
# Inside, the folder /rig is there for everybody's files.
# Prints "up PID" when systemd takes commands. Needs root, util-linux, iproute2, systemd, overlayfs.
set -eu

inside() {
    local root=$1 name pair from to
    shift
    # A machine without units, mounts and settings of its own.
    rm -rf "$root/etc/systemd/system"
    mkdir -p "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d"
    : >"$root/etc/fstab"
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n' \
        >"$root/etc/systemd/journald.conf.d/rig.conf"
    printf '[Unit]\nRequires=sysinit.target systemd-journald.service dbus.socket\n%s\n' \
        'After=sysinit.target systemd-journald.service dbus.socket' \
        >"$root/etc/systemd/system/rig.target"
    # What would reach for the kernel that is shared, or wait for devices.
    for name in kmod-static-nodes ldconfig systemd-{binfmt,firstboot,hwdb-update,journal-flush} \
        systemd-{logind,machine-id-commit,modules-load,pstore,random-seed,remount-fs,sysctl} \
        systemd-{timesyncd,udev-trigger,udevd,update-utmp,boot-system-token}; do
        ln -s /dev/null "$root/etc/systemd/system/$name.service"
    done
    for name in sys-kernel-{config,debug,tracing}.mount sys-fs-fuse-connections.mount \
        dev-hugepages.mount proc-sys-fs-binfmt_misc.automount systemd-journald-audit.socket \
        systemd-udevd-{control,kernel}.socket systemd-ask-password-console.path; do
        ln -s /dev/null "$root/etc/systemd/system/$name"
    done

    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
    for name in null zero full random urandom tty; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"
    ln -s fd/1 "$root/dev/stdout"
    ln -s fd/2 "$root/dev/stderr"
    mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$root/tmp"
    mkdir -m 777 "$root/rig"
    for pair; do
        from=${pair%%:*} to=$root${pair#*:}
        if [ -d "$from" ]; then
            mkdir -p "$to"
        else
            mkdir -p "${to%/*}"
            [ -e "$to" ] || : >"$to"
        fi
        mount --bind "$from" "$to"
    done
    ip link set lo up
    hostname rig

    mkdir -p "$root/mnt/old"
    cd "$root"
    pivot_root . mnt/old
    cd /
    umount -l /mnt/old
    # Without it a credential's folder stays empty.
    mount --make-rshared /
    # The clock and the modules are those of the machine.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=rig \
        setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
        /lib/systemd/systemd --system systemd.unit=rig.target systemd.show_status=0
}

# In the new namespaces, as their first process.
boot() {
    local work=$1
    shift
    umount "$work/cgroup"
    mkdir "$work/upper" "$work/scratch" "$work/root"
    mount -t overlay overlay \
        -o "lowerdir=/,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
    inside "$work/root" "$@"
}

# In a mount namespace of its own: mounts go when the last process does.
hold() {
    local work=$1 init='' try
    shift
    mount -t tmpfs -o mode=755,size=2g rig "$work"
    mkdir "$work/cgroup"
    mount -t cgroup2 cgroup2 "$work/cgroup"
    group=$work/cgroup/incumbent-${work##*/}
    mkdir "$group"
    outer=
    trap 'end "$group" "$outer"' EXIT
    # Into the group first, so that it is the root of the cgroup namespace.
    # shellcheck disable=SC2016
    setpriv --pdeathsig KILL sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"' - "$group" \
        unshare --cgroup --mount --pid --uts --ipc --net --fork --kill-child=KILL \
        --propagation private bash "$0" --boot "$work" "$@" </dev/null >"$work/console" 2>&1 &
    outer=$!
    for ((try = 0; try < 600; try++)); do
        if ! kill -0 "$outer" 2>/dev/null; then
            cat "$work/console" >&2
            exit 1
        fi
        [ -n "$init" ] || read -r init _ <"/proc/$outer/task/$outer/children" || :
        if [ -n "$init" ] && [ "$(ready "$init")" = active ]; then
            echo "up $init"
            # Until nobody holds the other end any more.
            cat >/dev/null
            return
        fi
        sleep 0.05
    done
    cat "$work/console" >&2
    exit 1
}

ready() {
    [[ $(readlink "/proc/$1/exe") == */systemd ]] || return 0
    nsenter -t "$1" -m -u -i -n -p -C systemctl is-active rig.target 2>/dev/null || :
}

end() {
    local try
    [ -z "$2" ] || { kill -KILL "$2" && wait "$2"; } 2>/dev/null || :
    # Also one that was moved out of reach of the first process's end.
    echo 1 >"$1/cgroup.kill" 2>/dev/null || :
    for ((try = 0; try < 100; try++)); do
        find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || :
        [ -d "$1" ] || return 0
        sleep 0.05
    done
}

case ${1:-} in
--boot)
    shift
    boot "$@"
    ;;
--hold)
    shift
    hold "$@"
    ;;
*)
    work=$(mktemp -d /tmp/rig-XXXXXXXX)
    trap 'rmdir "$work"' EXIT
    # Not a way to end early: the end of standard input is, and the rest follows in order.
    trap '' HUP INT TERM
    unshare --mount --propagation private bash "$0" --hold "$work" "$@"
    ;;
esac
