#!/usr/bin/env bash
# Makes .venv from the locked requirements. Does nothing when it is current.
# Needs Python 3.11 or newer with its venv module; on a machine with apt it offers to install that module.
set -euo pipefail

say() { printf '  %s\n' "$*"; }
die() { printf 'lab/setup.sh: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed, and none was found; install it (for example the package python3.11) and try again"
}

install_venv_module() {
  local python=$1 package
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if ! command -v apt-get >/dev/null || ! { [ "${DEMO_YES:-}" = 1 ] || [ "${CI:-}" = true ]; }; then
    die "Python's venv module is missing; install it with: apt-get install $package"
  fi
  say "installing $package"
  as_root apt-get update -qq >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}

make_environment() {
  local python
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module "$python"
  "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt
}

# uv does not read pip's settings: hand on the index and trust what the machine trusts.
install_tools() {
  local index=${PIP_INDEX_URL:-}
  if [ -z "$index" ] && [ -x .venv/bin/pip ]; then
    index=$(.venv/bin/pip config get global.index-url 2>/dev/null || true)
  fi
  [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
  UV_SYSTEM_CERTS=true .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python \
    --require-hashes --requirement requirements/dev.txt
  cp requirements/dev.txt .venv/installed.txt
}

main() {
  cmp -s requirements/dev.txt .venv/installed.txt && return
  local start=$SECONDS
  [ -x .venv/bin/uv ] || make_environment
  install_tools
  say ".venv is ready: $(.venv/bin/python --version), $((SECONDS - start)) s"
}

main
