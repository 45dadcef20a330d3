# Bitcoin Knots as Debian packages it, for compose.yml: amd64 and arm64, signatures checked by apt.
FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN echo "deb http://deb.debian.org/debian trixie-backports main" >/etc/apt/sources.list.d/backports.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends bitcoin-knots \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 1000 -g 1000 /data
USER 1000:1000
VOLUME /data
EXPOSE 8333
ENTRYPOINT ["bitcoind", "-datadir=/data", "-printtoconsole"]
