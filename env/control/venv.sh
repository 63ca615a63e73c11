#!/bin/bash
# venv.sh PYTHON VENV LOCK: a virtual environment with exactly what LOCK names, and the collections that Labwright uses.
set -euo pipefail
python=$1 venv=$2 lock=$3

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || {
  say "LW-CONTROL-001: $("$python" --version 2>&1 || echo 'no Python') found as '$python'; expected Python 3.11, 3.12 or 3.13." \
    "Install one (apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12 …"
  exit 2
}

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing $package, which $python needs to make a virtual environment."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
  else
    say "LW-CONTROL-002: $python cannot make a virtual environment; expected its modules venv and ensurepip." \
      "Run: apt-get install $package"
    exit 2
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps -r "$lock"
"$venv/bin/python" env/control/get_collections.py
