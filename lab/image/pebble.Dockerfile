# A throw-away ACME server (Pebble) with an HTTPS certificate from a small CA that it makes at every start.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pebble openssl >/dev/null \
  && rm -rf /var/lib/apt/lists/*
COPY pebble-start /sbin/pebble-start
COPY pebble.json /etc/pebble.json
ENV PEBBLE_VA_NOSLEEP=1 PEBBLE_VA_ALWAYS_VALID=0 PEBBLE_WFE_NONCEREJECT=0
STOPSIGNAL SIGKILL
CMD ["/sbin/pebble-start"]
