"""A database backend: Django's for PostgreSQL, whose kept connections are checked without a trip to the server."""
