"""The WSGI application, which also understands chunked request bodies."""

import os

from django.core.wsgi import get_wsgi_application

from latency_dashboard.chunked import AcceptChunkedBodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "latency_dashboard.settings")

application = AcceptChunkedBodies(get_wsgi_application())
