# One image for web, workers, beat and migrate: the command says which (docker-compose.yml).

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.txt /build/
# Every package by its hash, as wheels: nothing is compiled, so no compiler is needed.
RUN /opt/venv/bin/pip install --require-hashes --only-binary :all: -r /build/requirements.txt

COPY manage.py requirements.txt /app/
COPY latency_dashboard /app/latency_dashboard
COPY budgets /app/budgets
COPY alerts /app/alerts
COPY templates /app/templates
WORKDIR /app
# Settings insist on addresses and secrets. Collecting static files uses none of them, and these stay in this stage.
RUN DATABASE_URL=postgres://nobody@127.0.0.1:1/none REDIS_URL=redis://127.0.0.1:1/0 \
    SECRET_KEY=only-while-building KEY_PEPPER=also-only-while-building \
    DATA_DIR=/tmp/data STATIC_ROOT=/app/static \
    /opt/venv/bin/python manage.py collectstatic --no-input \
    && /opt/venv/bin/python -m compileall -q /app/latency_dashboard /app/budgets /app/alerts


FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 latency && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin latency
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# All that is ever written: heartbeats, counters and beat's schedule below /tmp, which is a tmpfs.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=latency_dashboard.settings \
    STATIC_ROOT=/app/static \
    DATA_DIR=/tmp/latency-dashboard \
    METRICS_DIR=/tmp/metrics \
    HEARTBEAT_FILE=/tmp/heartbeat
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-I", "latency_dashboard/probe.py", "web"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "8", "--backlog", "1024", "--workers-kill-timeout", "8", "--log-level", "error", \
     "--no-ws", "--respawn-failed-workers", "latency_dashboard.wsgi:application"]
