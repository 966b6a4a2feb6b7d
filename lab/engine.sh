#!/usr/bin/env bash
# Makes sure that a container engine answers and that the tools for building host images are there.
# Installs only after a yes: at the prompt, by DEMO_YES=1, or by CI=true. Debian and Ubuntu.
set -euo pipefail

log_directory=${LAB_LOG_DIRECTORY:-.cache/lab}

say() { printf '  %s\n' "$*"; }
die() { printf 'lab/engine.sh: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
answers() { docker info >/dev/null 2>&1; }

missing_packages() {
  answers || { command -v docker && command -v dockerd; } >/dev/null || echo docker.io apparmor
  command -v mmdebstrap >/dev/null || echo mmdebstrap
  command -v ssh >/dev/null || echo openssh-client
  command -v curl >/dev/null || echo curl
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
}

agreed() {
  [ "${DEMO_YES:-}" = 1 ] || [ "${CI:-}" = true ] && return
  [ -t 0 ] || die "these packages are missing: $*. Install them, or set DEMO_YES=1 to have them installed."
  local answer
  read -r -p "  Install $* on this machine? [y/N] " answer
  case $answer in [yY]*) return ;; *) die "nothing was installed, so the demo cannot go on" ;; esac
}

install_packages() {
  command -v apt-get >/dev/null || die "this machine has no apt; install by hand: $*"
  agreed "$@"
  say "installing $*"
  as_root apt-get update -qq >"$log_directory/apt.log" 2>&1 || die "apt-get update failed, see $log_directory/apt.log"
  # Newer releases have the client in a package of its own.
  if [[ " $* " == *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then set -- "$@" docker-cli; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    >>"$log_directory/apt.log" 2>&1 || die "the installation failed, see $log_directory/apt.log"
}

# A killed engine leaves its pid behind; whoever has that number now keeps the next one from starting.
forget_dead_engine() {
  local pid
  pid=$(cat /var/run/docker.pid 2>/dev/null) || return 0
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || as_root rm -f /var/run/docker.pid
}

start_engine() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || die "the docker service does not start, see: journalctl -u docker"
  else
    forget_dead_engine
    say "starting dockerd by hand, since no service manager runs here (log: $log_directory/dockerd.log)"
    as_root setsid dockerd </dev/null >"$log_directory/dockerd.log" 2>&1 &
  fi
  for _ in $(seq 120); do
    answers && return
    sleep 0.5
  done
  die "the container engine does not answer after 60 s; may this user use it (group docker)? Otherwise see $log_directory"
}

main() {
  mkdir -p "$log_directory"
  local packages
  read -r -d '' -a packages < <(missing_packages && printf '\0')
  [ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
  answers || start_engine
  say "container engine $(docker version --format '{{.Server.Version}}') answers"
}

main
