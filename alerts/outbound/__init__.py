"""What leaves this server for a channel: a POST to a URL that a customer chose, or a mail.

A POST lends nobody this server's network. The name is resolved here, every address it could lead to is judged
(alerts.addresses), and the connection goes to a judged address: no second look-up lies between the check and
the connection that a name with a short life could answer differently. The certificate and the Host header
stay those of the name. Redirects are not followed, proxies from the environment are not used, and one
deadline holds over everything: look-up, connection, TLS, and an answer that drips a byte at a time.
"""

from __future__ import annotations

from .answers import DEADLINE_S, EXCERPT_BYTES, Answer, DeliveryError
from .connections import ADDRESSES_TRIED, ForbiddenAddress, Resolver, getaddrinfo
from .mail import message_id, reaches_people, send_mail
from .posts import check_url, post
from .targets import MAX_URL_CHARACTERS, InvalidURL

__all__ = [
    "ADDRESSES_TRIED",
    "DEADLINE_S",
    "EXCERPT_BYTES",
    "MAX_URL_CHARACTERS",
    "Answer",
    "DeliveryError",
    "ForbiddenAddress",
    "InvalidURL",
    "Resolver",
    "check_url",
    "getaddrinfo",
    "message_id",
    "post",
    "reaches_people",
    "send_mail",
]
