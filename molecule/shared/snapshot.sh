#!/bin/sh
# Every path of the host with its kind, mode, owner and group, and a sum of the files below /etc; without what changes by itself.
set -eu
LC_ALL=C
export LC_ALL
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log \
  -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /root/.ansible \
  -o -path /home/ops -o -path /var/lib/docker -o -name __pycache__ \) -prune -o -printf '%y %m %u %g %p\n' |
  grep -v -E ' /(etc/ld.so.cache|etc/.*-|etc/mtab)$' | sort
find /etc -type f ! -name '*-' ! -name ld.so.cache -exec sha256sum {} + | sort -k2
