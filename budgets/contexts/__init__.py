"""What each page region shows: one object a region, built from a status and rendered by one template."""
