# PostgreSQL and Redis for tests, on one machine; nothing that it holds is kept.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql redis-server >/dev/null \
  && rm -rf /var/lib/apt/lists/*
COPY services-start /sbin/services-start
STOPSIGNAL SIGKILL
CMD ["/sbin/services-start"]
