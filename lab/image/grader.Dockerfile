# What grades a site from outside: other people's tools, each from its registry. `make grade` runs them beside the demo.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    bsdextrautils dnsutils lynis nmap nodejs npm procps python3-setuptools python3-venv python3-wheel testssl.sh >/dev/null \
  && rm -rf /var/lib/apt/lists/*
COPY grade.txt /opt/grade/requirements.txt
# sslyze comes as source only; Debian's setuptools build it.
RUN python3 -m venv --system-site-packages /opt/grade \
  && /opt/grade/bin/pip install --quiet --no-deps --no-build-isolation --require-hashes \
    --requirement /opt/grade/requirements.txt
# The lists that it would download belong to the whole internet; names of tests are in neither.
RUN NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt npm install --prefix /opt/observatory --ignore-scripts \
    --no-package-lock --no-audit --no-fund --silent @mdn/mdn-http-observatory@1.4.8 \
  && cd /opt/observatory/node_modules/@mdn/mdn-http-observatory \
  && mkdir -p conf && echo '{}' > conf/hsts-preload.json && echo '["test"]' > conf/tld-list.json
STOPSIGNAL SIGKILL
CMD ["sleep", "infinity"]
