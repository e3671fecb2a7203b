# syntax=docker/dockerfile:1
# Sotto in a container:
#
#   docker build -t sotto .
#   docker run --network host -e SOTTO__SIP__LISTEN=udp://192.0.2.1:5060 \
#       -v ./config:/etc/sotto/config:ro -v ./dialplans:/etc/sotto/dialplans:ro -v sotto-data:/var/lib/sotto sotto
#
# The network of the host, because every leg of a call takes two UDP ports: publishing ten thousand costs more than the
# calls do. Behind a NAT say SOTTO__SIP__EXTERNAL_ADDRESS as well. The API's token is in the volume, in the file `token`.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sotto \
    && install -D target/release/sotto /out/sotto

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends espeak-ng libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/sotto --shell /usr/sbin/nologin sotto \
    && install -d -o sotto -g sotto -m 0700 /var/lib/sotto
COPY --from=build /out/sotto /usr/local/bin/sotto
COPY config /etc/sotto/config
COPY dialplans /etc/sotto/dialplans

# Relative paths of the configuration count from here.
WORKDIR /etc/sotto
ENV SOTTO__STORE__URL=sqlite:///var/lib/sotto
VOLUME /var/lib/sotto
# SIP and the API. RTP takes [media] ports, 20000-29999/udp unless the configuration says otherwise.
EXPOSE 5060/udp 8080/tcp
USER sotto
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["sotto", "health"]
ENTRYPOINT ["sotto"]
CMD ["serve"]
