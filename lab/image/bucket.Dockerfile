# A server of S3 for tests: moto, which keeps all it gets in memory, behind nginx, which speaks TLS for it, since moto
# ends connections in a way that pgBackRest takes for a broken one.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx python3-venv >/dev/null \
  && rm -rf /var/lib/apt/lists/*
COPY s3.txt /opt/s3.txt
RUN python3 -m venv /opt/s3 && /opt/s3/bin/pip install --quiet --require-hashes --requirement /opt/s3.txt
COPY bucket.conf /etc/bucket.conf
COPY bucket-start /sbin/bucket-start
STOPSIGNAL SIGKILL
CMD ["/sbin/bucket-start"]
