"""The WSGI application, which also understands chunked request bodies."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from latency_dashboard.chunked import AcceptChunkedBodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "latency_dashboard.settings")

# What start-up made stays for ever: no collection needs to look at it again, and a full one takes 50 ms.
application = AcceptChunkedBodies(get_wsgi_application())
gc.collect()
gc.freeze()
