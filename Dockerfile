# The image of `weir`: the program and its default configuration, run by a user without rights.
#
# Rules are no part of it. They are mounted read-only at /rules, so that replacing a file on the host is seen inside.

FROM rust:1.95-bookworm AS build
# What librdkafka is compiled with: a C compiler and make, and the headers of OpenSSL and zlib.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ make pkg-config libssl-dev zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# Dependencies first, from the manifests alone: this layer is made again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY host/Cargo.toml host/
COPY host/crates/core/Cargo.toml host/crates/core/
COPY host/crates/system/Cargo.toml host/crates/system/
COPY host/crates/wasm/Cargo.toml host/crates/wasm/
COPY host/crates/kafka/Cargo.toml host/crates/kafka/
COPY host/crates/engine/Cargo.toml host/crates/engine/
COPY host/crates/control/Cargo.toml host/crates/control/
COPY host/crates/admin/Cargo.toml host/crates/admin/
COPY rules/sdk/Cargo.toml rules/sdk/
COPY rules/validation/Cargo.toml rules/validation/
COPY rules/utc-enrichment/Cargo.toml rules/utc-enrichment/
COPY rules/device-filter/Cargo.toml rules/device-filter/
RUN for crate in host host/crates/* rules/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
 && echo 'fn main() {}' > host/src/main.rs \
 && cargo build --locked --release --package weir

# Then the program. Its files are older than the empty ones that they replace, which is why these are touched.
COPY wit wit
COPY host host
RUN touch host/src/main.rs host/src/lib.rs host/crates/*/src/lib.rs \
 && cargo build --locked --release --package weir

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --create-home --home-dir /var/lib/weir --shell /usr/sbin/nologin weir
COPY --from=build /src/target/release/weir /usr/local/bin/weir
COPY weir.toml /etc/weir/weir.toml
ENV WEIR_CONFIG=/etc/weir/weir.toml WEIR_RULES_FOLDER=/rules
USER 10001:10001
WORKDIR /var/lib/weir
ENTRYPOINT ["weir"]
CMD ["run"]
