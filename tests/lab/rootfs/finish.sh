#!/bin/sh
# Last step of the root file system: a fresh Debian host with one administrator, and nothing in it that would
# touch the machine below, fail in a container, or take the apt lock behind a role's back. $1 is the root.
set -eu
root=$1

rm -f "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"

for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    motd-news.timer systemd-modules-load.service systemd-sysctl.service systemd-binfmt.service systemd-udevd.service \
    systemd-remount-fs.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount console-getty.service getty.target; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done

# How the root was made is not how its packages are installed later: recommended ones come, as on any Debian.
printf 'Acquire::Languages "none";\n' > "$root/etc/apt/apt.conf.d/99mmdebstrap"

# Every host makes its own key at its first start; the image carries none.
cat > "$root/etc/systemd/system/ssh-hostkey.service" <<'UNIT'
[Unit]
Description=Make the SSH host key
Before=ssh.service ssh.socket
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -N "" -t ed25519 -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl -q enable ssh-hostkey.service

cat > "$root/etc/ssh/sshd_config.d/labwright.conf" <<'SSHD'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
SSHD

chroot "$root" useradd --create-home --shell /bin/bash ops
install -d -m 0700 "$root/home/ops/.ssh"
chroot "$root" chown ops:ops /home/ops/.ssh
printf 'ops ALL=(ALL:ALL) NOPASSWD: ALL\n' > "$root/etc/sudoers.d/ops"
chmod 0440 "$root/etc/sudoers.d/ops"
