# Debian's Chromium, driven over the WebDriver protocol on port 9515.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    chromium chromium-driver fonts-dejavu-core libnss3-tools >/dev/null \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home browser
COPY browser-start /sbin/browser-start
USER browser
STOPSIGNAL SIGKILL
CMD ["/sbin/browser-start"]
