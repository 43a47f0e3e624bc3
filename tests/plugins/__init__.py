"""Plugins that pytest loads by name (`-p`), before Django's settings are read."""
