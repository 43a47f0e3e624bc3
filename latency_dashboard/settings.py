"""Every setting, read from the environment by django-environ.

Where DATABASE_URL or REDIS_URL is unset, the embedded server below DATA_DIR is meant.
docs/reference/settings.md describes each variable.
"""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import environ
import plotly
from csp.constants import NONCE, NONE, SELF
from redis.backoff import NoBackoff
from redis.retry import Retry

from latency_dashboard import embedded

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"
env = environ.Env()

# -- Where data lives ---------------------------------------------------------------------------
DATA_DIR = Path(env.str("DATA_DIR", default=str(embedded.default_data_dir(BASE_DIR)))).resolve()
EMBEDDED_POSTGRES = not env.str("DATABASE_URL", default="")
EMBEDDED_REDIS = not env.str("REDIS_URL", default="")

# -- Secrets ------------------------------------------------------------------------------------
# With embedded servers they are made at first use and kept in DATA_DIR; otherwise they must be given.
_secrets = embedded.secrets(DATA_DIR) if EMBEDDED_POSTGRES else {}
SECRET_KEY = env.str("SECRET_KEY", default=_secrets.get("SECRET_KEY", environ.Env.NOTSET))
# The pepper of ingest keys is apart from SECRET_KEY, so that either can be rotated without the other.
KEY_PEPPER = env.str("KEY_PEPPER", default=_secrets.get("KEY_PEPPER", environ.Env.NOTSET))
# Former ones, while they are being rotated out: sessions and keys made under them go on.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
KEY_PEPPER_FALLBACKS = env.list("KEY_PEPPER_FALLBACKS", default=[])

# -- HTTP ---------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
PORT = env.int("PORT", default=8000)
# The address that people and alerts use; a https:// address turns secure cookies, HSTS and redirects on.
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
_is_https = PUBLIC_URL.startswith("https://")
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]", PUBLIC_URL.split("//")[1].split(":")[0]]
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
ROOT_URLCONF = "latency_dashboard.urls"
WSGI_APPLICATION = "latency_dashboard.wsgi.application"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _is_https
SESSION_COOKIE_NAME = "__Host-session" if _is_https else "session"
CSRF_COOKIE_NAME = "__Host-csrftoken" if _is_https else "csrftoken"
SECURE_HSTS_SECONDS = 31_536_000 if _is_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _is_https
# Probes and Prometheus ask from within, by plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
# Behind a proxy that ends TLS and sets this header itself; unset means that the header is not trusted.
if env.bool("TRUST_X_FORWARDED_PROTO", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Proxies in front of this that append to X-Forwarded-For: so many entries from its right are believed.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF, NONCE],  # Plotly fills one nonce'd <style>
        "img-src": [SELF, "data:", "blob:"],  # a chart's PNG export draws from data: and blob:
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
    "ninja",
    "axes",
    "latency_dashboard.checks.LatencyDashboardConfig",
    "budgets",
    "alerts",
]

MIDDLEWARE = [
    "latency_dashboard.request_log.RequestLog",
    "latency_dashboard.api_errors.ApiErrorShape",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "budgets.reading_zone.ReadInZone",
    "budgets.kept_forms.KeepForms",
    "axes.middleware.AxesMiddleware",  # the last: it answers in place of a login form
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    }
]

# -- PostgreSQL: all truth ----------------------------------------------------------------------
DATABASES = {"default": embedded.database_settings(DATA_DIR) if EMBEDDED_POSTGRES else env.db("DATABASE_URL")}
DATABASES["default"] |= {
    "ENGINE": "latency_dashboard.postgresql",
    # A connection a thread, kept: Celery would close a pool around each task.
    "CONN_MAX_AGE": env.int("DATABASE_CONN_MAX_AGE", default=60),
    "CONN_HEALTH_CHECKS": True,
}
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 3
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- Redis: a doorbell --------------------------------------------------------------------------
_redis_url = env.str("REDIS_URL", default="")
CELERY_BROKER_URL = embedded.broker_url(DATA_DIR) if EMBEDDED_REDIS else _redis_url
# No retries: a request must not wait for a doorbell.
REDIS_OPTIONS = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": embedded.cache_url(DATA_DIR) if EMBEDDED_REDIS else _redis_url,
        "KEY_PREFIX": "latency_dashboard",
        "OPTIONS": REDIS_OPTIONS,
    }
}

# -- Sign-in ------------------------------------------------------------------------------------
AUTH_USER_MODEL = "budgets.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_RESET_TIMEOUT = 4 * 3600

# Guesses at a password are counted in PostgreSQL, by account and address: nobody locks out a person elsewhere.
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURE_LIMIT", default=5)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("LOGIN_COOL_OFF_MINUTES", default=15))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "latency_dashboard.client_address.client_network"
AXES_LOCKOUT_CALLABLE = "budgets.views.accounts.locked_out"
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "budgets.login_attempts.account_of"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "csrfmiddlewaretoken"]

# -- Mail ---------------------------------------------------------------------------------------
# Invitations, password resets, and alerts by e-mail. Without a server, on one's own machine a mail is written into
# the log; elsewhere it is dropped, because links that give access are not for whoever reads logs.
EMAIL_IS_CONFIGURED = bool(env.str("EMAIL_URL", default=""))
_mail = env.email_url("EMAIL_URL", default="consolemail://" if EMBEDDED_POSTGRES or DEBUG else "dummymail://")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_FILE_PATH = _mail["EMAIL_FILE_PATH"]
EMAIL_HOST, EMAIL_HOST_USER = _mail["EMAIL_HOST"] or "", _mail["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS, EMAIL_USE_SSL = bool(_mail.get("EMAIL_USE_TLS")), bool(_mail.get("EMAIL_USE_SSL"))
EMAIL_PORT = _mail["EMAIL_PORT"] or (465 if EMAIL_USE_SSL else 587 if EMAIL_USE_TLS else 25)
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=10)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str(
    "DEFAULT_FROM_EMAIL",
    default=f"Latency Dashboard <latency-dashboard@{urlsplit(PUBLIC_URL).hostname or 'localhost'}>",
)

# -- Language, time, static files ---------------------------------------------------------------
LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(DATA_DIR / "static"))
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "latency_dashboard.staticfinders.PlotlyFinder",
]
PLOTLY_BUNDLE = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Nothing asks for a file by its plain name, and to compress each twice takes most of a first start.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True

# -- Ingest limits ------------------------------------------------------------------------------
INGEST_MAX_WIRE_BYTES = 1 * 1024 * 1024
INGEST_MAX_INFLATED_BYTES = 8 * 1024 * 1024
INGEST_MAX_MEASUREMENTS = 10_000
INGEST_MAX_BACKLOG = env.int("INGEST_MAX_BACKLOG", default=2_000_000)
MAX_COMPONENTS_PER_FEATURE = 50
MAX_ENVIRONMENTS_PER_FEATURE = 10
MAX_SERIES_PER_FEATURE = 2000
DATA_UPLOAD_MAX_MEMORY_SIZE = INGEST_MAX_WIRE_BYTES

# -- Retention, in days -------------------------------------------------------------------------
RAW_RETENTION_DAYS = env.int("RAW_RETENTION_DAYS", default=7)
MINUTE_RETENTION_DAYS = env.int("MINUTE_RETENTION_DAYS", default=14)
HOUR_RETENTION_DAYS = env.int("HOUR_RETENTION_DAYS", default=400)

# -- Alerts -------------------------------------------------------------------------------------
ALERT_KEEP_FIRING_SECONDS = env.int("ALERT_KEEP_FIRING_SECONDS", default=300)
# Networks that webhooks may reach although they are private, e.g. 10.1.0.0/16.
OUTBOUND_ALLOWED_CIDRS = env.list("OUTBOUND_ALLOWED_CIDRS", default=[])
# Schemes of Apprise URLs that a channel may have, e.g. pover,gchat; all whose host is fixed, unless it is set. Set and
# empty it allows none: env.list would take that for unset.
APPRISE_SCHEMES = (
    [name.strip() for name in env.str("APPRISE_SCHEMES").split(",") if name.strip()]
    if "APPRISE_SCHEMES" in env
    else None
)

# -- Celery -------------------------------------------------------------------------------------
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 600,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
    # Of a connection to publish on: 0.3 s, then the sender goes on without. A worker's own is tried for ever.
    "max_retries": 3,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.3,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 3,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.3,
}
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 90
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 500
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_DB_REUSE_MAX = 1000
CELERY_TASK_DEFAULT_QUEUE = "maintain"
CELERY_TIMEZONE = "UTC"

# Where a worker or beat shows that it is alive; unset: nowhere (latency_dashboard/heartbeat.py).
HEARTBEAT_FILE = env.str("HEARTBEAT_FILE", default="")
# Who watches the watcher: what expects a POST every half minute, and calls somebody where none comes.
HEARTBEAT_URL = env.str("HEARTBEAT_URL", default="")
CELERY_BEAT_SCHEDULER = "latency_dashboard.heartbeat:BeatingScheduler"

# -- Metrics ------------------------------------------------------------------------------------
# Prometheus shows it as a bearer token; unset: there is no /metrics.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
METRICS_CACHE_SECONDS = env.float("METRICS_CACHE_SECONDS", default=5.0)
# Where the web processes of a machine keep what they count, so that one of them can tell for all.
METRICS_DIR = env.str("METRICS_DIR", default=str(DATA_DIR / "metrics"))

# -- Logs ---------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
# For machines where the database is somebody else's, for people at a terminal.
LOG_FORMAT = env.str("LOG_FORMAT", default="text" if EMBEDDED_POSTGRES else "json")
LOGGING_CONFIG = "latency_dashboard.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"requests": {"()": "latency_dashboard.logs.NoteRequests"}},
    "formatters": {
        "json": {"()": "latency_dashboard.logs.JsonLines"},
        "text": {"()": "latency_dashboard.logs.PlainLines"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT if LOG_FORMAT in ("json", "text") else "text",  # a check tells
            "filters": ["requests"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers would write each line a second time, in another format.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},  # what was refused stands in the line of the request
        "httpcore": {"level": "WARNING"},
        "axes": {"level": "WARNING"},  # failures and locks, not every login with the path it came from
        # A line for every task that comes and goes, twenty times a second.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
