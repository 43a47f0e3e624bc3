"""The project: settings, Celery, URLs, embedded servers."""

from latency_dashboard.celery import app as celery_app

__all__ = ["celery_app"]
