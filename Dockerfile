# One image for every role; the command says which one a container plays. The pinned versions are raised by hand.
FROM rust:1.91.1-slim-bookworm AS build
WORKDIR /src
# jemalloc is built by make; with it the control planes tell who holds the memory.
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY crates crates
COPY drills drills
COPY alerts alerts
COPY docs/runbooks docs/runbooks
RUN cargo build --release --locked --features jemalloc --bin firedrill

FROM debian:12.12-slim
RUN groupadd --gid 10001 firedrill \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin firedrill \
 && install -d -o 10001 -g 10001 /data
COPY --from=build /src/target/release/firedrill /usr/local/bin/firedrill
USER 10001:10001
# The only place that is written to: with it as a volume the root file system can be read-only.
ENV FIREDRILL_DATA=/data
VOLUME /data
# Of the whole lab in one container, which needs the host's network to be seen: docker run --network host firedrill.
# docker-compose.yml says for each role what its health is.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["firedrill", "health", "http://127.0.0.1:8900/"]
ENTRYPOINT ["firedrill"]
CMD ["up"]
