#!/usr/bin/env bash
# The collection as a stranger gets it: built from the repository's files into a tarball, installed elsewhere, and
# groundwork.django.site run from there on a bare host. Run it from the checkout; tests/run.py does.
set -euo pipefail

work=$PWD/.cache/package
die() { printf 'tests/package/run.sh: %s\n' "$*" >&2; exit 1; }
scenario() { molecule "$@" --scenario-name default; }

build() {
  rm -rf "$work"
  mkdir -p "$work/source"
  git ls-files --cached --others --exclude-standard --deduplicate -z \
    | tar --create --null --files-from - --ignore-failed-read 2>/dev/null | tar --extract --directory "$work/source"
  ansible-galaxy collection build --output-path "$work" "$work/source"
  tarball=$(echo "$work"/groundwork-django-*.tar.gz)
  if tar -tzf "$tarball" | grep -E '(^|/)(\.venv|\.demo|\.cache|\.ansible|\.git)/|vault\.yml$|vault-password'; then
    die "the tarball holds what nobody needs, or secrets"
  fi
}

install_elsewhere() {
  export ANSIBLE_COLLECTIONS_PATH=$work/collections
  ansible-galaxy collection install --no-deps --collections-path "$work/collections" "$tarball"
  ansible-galaxy collection list groundwork.django | grep -F "$work/collections" >/dev/null || die "another copy is in the way"
}

run_site() {
  export MOLECULE_EPHEMERAL_DIRECTORY=$work/molecule
  export LAB_SITE=groundwork.django.site
  export PYTEST_ADDOPTS="-k 'pages or check_mode'"
  scenario destroy
  trap 'scenario destroy' EXIT
  local step
  for step in create prepare converge idempotence verify; do
    scenario "$step"
  done
}

build
install_elsewhere
run_site
