# One image for every program; the command chooses which: webhook-api (the default), admin-api,
# aggregation-worker, codexflow.

FROM swift:6.3.1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcrypt-dev libpq-dev libsimdjson-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# A layer of their own: dependencies stay where only our sources change. (Package.resolved is there or is not.)
COPY Package.swift Package.resolve[d] ./
RUN swift package resolve
COPY . .
RUN scripts/stage /stage

FROM debian:bookworm-slim
# The two libraries the programs are linked with, the charts of the pages, and the authorities for
# DB_SSLMODE=verify-full. libcrypt, libstdc++, zlib and the time zones are in every Debian.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libjs-chart.js libpq5 libsimdjson14 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /stage /opt/codexflow
ENV PATH=/opt/codexflow/bin:/usr/local/bin:/usr/bin:/bin WEBHOOK_HOST=0.0.0.0 ADMIN_HOST=0.0.0.0 WORKER_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8081 8082 8083
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["webhook-api", "--check-health"]
CMD ["webhook-api"]
