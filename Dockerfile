# One image holds the whole server side; `fleetgate up` runs Mosquitto, the gateway and the relay as its children,
# because they share a unix socket and files that must change together.
FROM node:22-bookworm-slim AS pages
WORKDIR /src
COPY packaging/pages packaging/pages
RUN mkdir -p gateway/web \
    && packaging/pages/fetch --omit=dev \
    # A checkout does without these libraries where it must; an image is not made by halves.
    && test -f gateway/web/vendor/.made

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements-test.lock ./
COPY wire wire
COPY agent agent
COPY broker broker
COPY gateway gateway
COPY firmware_sim firmware_sim
COPY --from=pages /src/gateway/web/vendor gateway/web/vendor
# The lock keeps an image reproducible: the versions are those that the suite ran with.
RUN python -m venv /opt/fleetgate \
    && /opt/fleetgate/bin/pip install --no-cache-dir -c requirements-test.lock .

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends mosquitto \
    && rm -rf /var/lib/apt/lists/* \
    # Numbers, so that the owner of a bind-mounted folder can be set from outside.
    && groupadd --gid 10001 fleetgate \
    && useradd --uid 10001 --gid fleetgate --home-dir /data --no-create-home fleetgate \
    && install -d -m 0700 -o fleetgate -g fleetgate /data
COPY --from=build /opt/fleetgate /opt/fleetgate
# In a container the listener for people has to be reachable from outside it, and Fleetgate refuses that without a
# certificate unless a proxy in front is promised. A new volume starts as a copy of this folder, so the promise is made
# once, in a file that the operator can change.
RUN printf '[http]\nbehind_proxy = true\n' > /data/gateway.toml \
    && chown fleetgate:fleetgate /data/gateway.toml \
    && chmod 0600 /data/gateway.toml
# Debian puts Mosquitto into /usr/sbin.
ENV PATH=/opt/fleetgate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1
USER fleetgate
VOLUME /data
# 8885 is the relay's. It stays on the container's loopback until it has a domain: see docker-compose.yml.
EXPOSE 8080 8883 8884 8885
# /healthz says that the process lives; /readyz would also take it out while Mosquitto restarts, which `up` does itself.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# SIGTERM is what `up` waits for; it then ends its children in order.
STOPSIGNAL SIGTERM
CMD ["fleetgate", "up", "--data", "/data", "--http", "0.0.0.0:8080", "--mqtt", "0.0.0.0:8883", "--devices", "0.0.0.0:8884"]
