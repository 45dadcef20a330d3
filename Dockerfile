# syntax=docker/dockerfile:1
#
# gatewayd for amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 -t gatewayd .
# The build runs on the builder's own processor and compiles for the other one, which takes minutes
# where an emulated build takes hours.

FROM --platform=$BUILDPLATFORM rust:1.95-slim-bookworm AS build
ARG TARGETARCH
WORKDIR /src

# C compilers for SQLite, secp256k1 and ring: the builder's own, and the target's if that differs.
# hadolint ignore=DL3008
RUN <<EOF
set -eu
packages="gcc libc6-dev"
if [ "$(dpkg --print-architecture)" != "$TARGETARCH" ]; then
  case "$TARGETARCH" in
    amd64) packages="$packages gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
    arm64) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
    *) echo "no build for $TARGETARCH: only amd64 and arm64" >&2; exit 1 ;;
  esac
fi
apt-get update
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
EOF

COPY . .
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked <<EOF
set -eu
case "$TARGETARCH" in
  amd64) target=x86_64-unknown-linux-gnu ;;
  arm64) target=aarch64-unknown-linux-gnu ;;
esac
rustup target add "$target"
# Without the devnet: an image has no CPU miner and no load generator.
cargo build --locked --no-default-features --profile dist --target "$target"
install -D "target/$target/dist/gatewayd" /out/gatewayd
install -d /out/data
EOF

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="gatewayd" \
      org.opencontainers.image.description="A Bitcoin mining gateway: your node's templates, your miners, a DATUM pool" \
      org.opencontainers.image.licenses="MIT"

COPY --from=build /out/gatewayd /usr/local/bin/gatewayd
# A fresh volume takes over the owner. Nothing else is ever written to.
COPY --from=build --chown=1000:1000 /out/data /data
USER 1000:1000
VOLUME /data
# What every container needs; all else is gatewayd.toml in /data, or GATEWAYD_... in the environment.
ENV GATEWAYD_LEDGER__DATA_DIR=/data \
    GATEWAYD_API__LISTEN=0.0.0.0:7152
# Miners; the dashboard.
EXPOSE 23334 7152
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["gatewayd", "--config", "/data/gatewayd.toml", "healthcheck"]
ENTRYPOINT ["gatewayd", "--config", "/data/gatewayd.toml"]
CMD ["run"]
