# syntax=docker/dockerfile:1
#
# Two images from one file:
#
#   docker build --target node     -t quadraft-node:0.1.0 .
#   docker build --target operator -t quadraft-operator:0.1.0 .
#
# The stage `binaries` holds the two programs and nothing else. Programs that were built already
# take its place with `--build-context binaries=DIR`, where DIR holds quadraft-operator and
# quadraft-node; the C library of the runtime base must then be at least as new as that of the
# machine that built them. packaging/build-images does both.

ARG RUST_IMAGE=rust:1.95-slim-bookworm
# A base needs libc, libgcc_s and libstdc++ (RocksDB is C++), CA certificates (object stores) and
# time zones. No shell, no package manager.
ARG RUNTIME_BASE_NODE=debian:bookworm-slim
ARG RUNTIME_BASE_OPERATOR=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
# RocksDB is compiled from source, and its Rust bindings are made with libclang.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libclang-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked --workspace --bins \
 && mkdir /binaries \
 && cp target/release/quadraft-node target/release/quadraft-operator /binaries/ \
 && strip --strip-debug /binaries/*

FROM scratch AS binaries
COPY --from=build /binaries/ /

FROM ${RUNTIME_BASE_NODE} AS node
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="quadraft-node" \
      org.opencontainers.image.description="A replicated SPARQL 1.1 database node" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/quadraft/quadraft" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binaries --chown=0:0 --chmod=0755 /quadraft-node /usr/local/bin/quadraft-node
# Everything that is written goes to /data, a volume: the root file system may be read-only.
USER 65532:65532
WORKDIR /
EXPOSE 7878 7879 9464
ENTRYPOINT ["/usr/local/bin/quadraft-node"]
CMD ["serve", "--data", "/data", "--listen", "0.0.0.0:7878"]

FROM ${RUNTIME_BASE_OPERATOR} AS operator
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="quadraft-operator" \
      org.opencontainers.image.description="The Kubernetes operator that runs Quadraft clusters" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/quadraft/quadraft" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binaries --chown=0:0 --chmod=0755 /quadraft-operator /usr/local/bin/quadraft-operator
USER 65532:65532
WORKDIR /
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/quadraft-operator"]
CMD ["run"]
