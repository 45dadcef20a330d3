# Bitcoin Core's own release, for compose.yml: amd64 and arm64. The hashes are those that its
# builders signed (github.com/bitcoin-core/guix.sigs, folder 31.0): change them together with VERSION.
FROM debian:trixie-slim AS release
ARG VERSION=31.0
ARG TARGETARCH
WORKDIR /release
ADD https://bitcoincore.org/bin/bitcoin-core-${VERSION}/bitcoin-${VERSION}-x86_64-linux-gnu.tar.gz \
    https://bitcoincore.org/bin/bitcoin-core-${VERSION}/bitcoin-${VERSION}-aarch64-linux-gnu.tar.gz \
    ./
RUN case "$TARGETARCH" in \
      amd64) platform=x86_64 hash=d3e4c58a35b1d0a97a457462c94f55501ad167c660c245cb1ffa565641c65074 ;; \
      arm64) platform=aarch64 hash=4de1d568dedd48604f75132421bc0abeca432639589b49a3909c81db3a813112 ;; \
      *) echo "no Bitcoin Core for $TARGETARCH here" >&2; exit 1 ;; \
    esac \
    && archive="bitcoin-$VERSION-$platform-linux-gnu.tar.gz" \
    && echo "$hash  $archive" >SHA256SUMS \
    && sha256sum --check SHA256SUMS \
    && tar --extract --file="$archive" --strip-components=2 \
      "bitcoin-$VERSION/bin/bitcoind" "bitcoin-$VERSION/bin/bitcoin-cli"

FROM debian:trixie-slim
COPY --from=release /release/bitcoind /release/bitcoin-cli /usr/local/bin/
RUN install -d -o 1000 -g 1000 /data
USER 1000:1000
VOLUME /data
EXPOSE 8333
ENTRYPOINT ["bitcoind", "-datadir=/data", "-printtoconsole"]
