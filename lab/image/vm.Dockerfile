# What makes the disk of a virtual machine and runs it, its ports being the machine's; and Lynis, to be copied there.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    debian-archive-keyring e2fsprogs lynis mmdebstrap qemu-system-x86 qemu-utils xorriso >/dev/null \
  && rm -rf /var/lib/apt/lists/*
COPY vm-disk vm-seed vm-start /sbin/
STOPSIGNAL SIGKILL
CMD ["/sbin/vm-start"]
