"""Settings of the baseline: the same PostgreSQL as the product's, another database."""

import os
from pathlib import Path

from latency_dashboard import embedded

_DATA_DIR = Path(os.environ["DATA_DIR"])

SECRET_KEY = embedded.secrets(_DATA_DIR)["SECRET_KEY"]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "benchmarks.drf_app.urls"
WSGI_APPLICATION = "benchmarks.drf_app.wsgi.application"
INSTALLED_APPS = ["rest_framework", "benchmarks.drf_app"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # for Content-Length
DATABASES = {
    "default": {
        **embedded.database_settings(_DATA_DIR),
        "NAME": "plain",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024
