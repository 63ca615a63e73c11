#!/bin/sh
# Self-extracting installer of a Conda base, with the command line and the manners of Miniforge's own: it must be run by a
# name that ends in .sh, refuses a prefix that exists unless -u (or -f) is given, and wants no spaces in the prefix.
set -eu
case "$0" in *.sh) ;; *) echo 'ERROR: run this file by a name that ends in .sh' >&2; exit 1 ;; esac
PREFIX="${HOME:-/opt}/miniforge3" BATCH=0 OVER=0
while getopts hbfusikmtp: option; do
    case "$option" in
        b) BATCH=1 ;; i) BATCH=0 ;; f | u) OVER=1 ;; p) PREFIX=$OPTARG ;; k | s | m | t) ;;
        h) echo "usage: $0 [-b] [-f] [-u] [-p PREFIX]"; exit 2 ;;
        *) echo "ERROR: unknown option, see -h" >&2; exit 1 ;;
    esac
done
[ "$BATCH" = 1 ] || { echo 'ERROR: this installer asks no questions; use -b' >&2; exit 2; }
case "$PREFIX" in *\ *) echo 'ERROR: no spaces in the prefix, please' >&2; exit 1 ;; esac
if [ "$OVER" = 0 ] && [ -e "$PREFIX" ]; then
    echo "ERROR: $PREFIX is there already; -u installs over it" >&2
    exit 1
fi
line=$(grep -anm1 '^@@PAYLOAD@@$' "$0" | cut -d: -f1)
payload() { tail -n +$((line + 1)) "$0"; }
if [ "$(payload | sha256sum | cut -d' ' -f1)" != '@SUM@' ]; then
    echo 'ERROR: the payload is damaged; fetch the installer again' >&2
    exit 1
fi
mkdir -p "$PREFIX"
PREFIX=$(cd "$PREFIX" && pwd)
echo "PREFIX=$PREFIX"
payload | tar -xzf - --no-same-owner -C "$PREFIX"
cd "$PREFIX"
while IFS= read -r file; do sed -i "s#@BASE@#$PREFIX#g" "$file"; done <.prefix-files
rm .prefix-files
mkdir -p envs pkgs
echo 'installation finished.'
exit 0
@@PAYLOAD@@
