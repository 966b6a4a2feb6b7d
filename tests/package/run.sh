#!/usr/bin/env bash
# The collection as a stranger gets it: built into a tarball, installed elsewhere, and groundwork.django.site run from
# there on a bare host. Run it from the checkout; tests/run.py does.
set -euo pipefail

work=$PWD/.cache/package
die() { printf 'tests/package/run.sh: %s\n' "$*" >&2; exit 1; }
scenario() { molecule "$@" --scenario-name default; }

rm -rf "$work"
mkdir -p "$work"
ansible-galaxy collection build --output-path "$work"
tarball=$(echo "$work"/groundwork-django-*.tar.gz)
if tar -tzf "$tarball" | grep -E '^(\.venv|\.demo|\.cache|\.ansible|molecule|tests)/|vault\.yml$'; then
  die "the tarball holds files that nobody needs, or secrets"
fi
ansible-galaxy collection install --no-deps --collections-path "$work/collections" "$tarball"

export MOLECULE_EPHEMERAL_DIRECTORY=$work/molecule
export ANSIBLE_COLLECTIONS_PATH=$work/collections
export LAB_SITE=groundwork.django.site
export PYTEST_ADDOPTS="-k 'pages or check_mode'"
scenario destroy
trap 'scenario destroy' EXIT
for step in create prepare converge idempotence verify; do
  scenario "$step"
done
