# A bare Debian machine as a hosting company hands it out, made to run in a container.
# What is added serves the container and the build machine's network only; no role knows of it.
ARG BASE
FROM ${BASE}
COPY certificates/ /usr/local/share/ca-certificates/
COPY lab-init /sbin/lab-init
RUN update-ca-certificates >/dev/null \
  && printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >/etc/pip.conf \
  && mkdir -p /etc/uv && printf 'system-certs = true\n' >/etc/uv/uv.toml \
  && rm -f /etc/ssh/ssh_host_* \
  && systemctl mask systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket console-getty.service getty@.service systemd-logind.service
STOPSIGNAL SIGRTMIN+3
ENV container=docker
CMD ["/sbin/lab-init"]
