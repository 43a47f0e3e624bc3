from tests.mail_servers import mail_server
from tests.receivers import webhook_receiver

__all__ = ["mail_server", "webhook_receiver"]
