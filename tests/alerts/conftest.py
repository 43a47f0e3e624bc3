from tests.receivers import webhook_receiver

__all__ = ["webhook_receiver"]
