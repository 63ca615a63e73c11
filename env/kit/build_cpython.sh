#!/bin/sh
# Runs inside a throw-away chroot (see chroot.py): a plain CPython out of the distribution's upstream tarball, with the
# shared libraries it needs beside it, as /cpython.tar. Plain means: the tarball as its authors made it, without the
# distribution's patches, which move site-packages.
set -eu
SERIES=$1
JOBS=$(nproc)
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive
mkdir /src && cd /src
apt-get source --download-only -q "python$SERIES" >/dev/null
mkdir tree && tar -xf python"$SERIES"_*.orig.tar.* -C tree --strip-components=1 && cd tree
./configure -q --prefix=/cpython/prefix --without-static-libpython --with-ensurepip=no --disable-test-modules \
    --with-system-ffi --with-system-expat MODULE_BUILDTYPE=shared >/src/configure.log 2>&1 || { tail -n 20 /src/configure.log; exit 1; }
make -s -j"$JOBS" >/src/make.log 2>&1 || { tail -n 20 /src/make.log; exit 1; }
make -s install >/src/install.log 2>&1 || { tail -n 20 /src/install.log; exit 1; }
cd /cpython/prefix
find . -name __pycache__ -prune -exec rm -rf {} +
# The parts without which pip, TLS or AutoGen's cache would be missing: fail here, not on a host.
"bin/python$SERIES" -I -B -c 'import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib; ssl.create_default_context()'
# Libraries of this system, found by the loader, go beside libpython; the C library itself never does.
ldd "bin/python$SERIES" "lib/python$SERIES"/lib-dynload/*.so | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
    grep -Ev '/(libc|libm|libdl|libpthread|librt|libutil|libresolv|ld-linux[^/]*|libgcc_s|libstdc\+\+)\.so' |
    while read -r library; do [ "${library#/cpython}" != "$library" ] || cp -L "$library" lib/; done
tar -C /cpython --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$SOURCE_DATE_EPOCH -cf /cpython.tar prefix
