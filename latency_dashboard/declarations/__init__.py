"""Teams' features and channels as YAML: `manage.py apply` and `manage.py export`."""
