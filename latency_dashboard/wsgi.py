"""The WSGI application, which also understands chunked request bodies."""

import gc
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from latency_dashboard import metrics_files
from latency_dashboard.chunked import AcceptChunkedBodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "latency_dashboard.settings")

# Before anything is counted: prometheus_client looks at it as it is imported, and then counts in files of this
# folder, so that whichever process is asked can tell for all of them. Without room for files it tells for itself.
if metrics_files.reserve(settings.METRICS_DIR):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.METRICS_DIR

# What start-up made stays for ever: no collection needs to look at it again, and a full one takes 50 ms.
application = AcceptChunkedBodies(get_wsgi_application())
gc.collect()
gc.freeze()
