"""The project: settings, Celery, URLs, embedded servers."""

from latency_dashboard.celery import app as celery_app

__version__ = "0.1.0"
__all__ = ["celery_app"]
