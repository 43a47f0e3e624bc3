"""What teams declare as YAML: `manage.py apply` and `manage.py export`."""
