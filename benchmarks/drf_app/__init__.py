"""The baseline: how one would store measurements with Django REST framework and `bulk_create`.

The same items as the product takes, every field checked by a serializer, each series looked up once, all
rows in one `bulk_create`, and the answer after the commit. No middleware that it could do without, no index but the primary key: it
does no more than it must.
"""
