"""How fast the product is, measured in one run on servers of its own: `make bench`.

    ingest    measurements/s over HTTP, beside a plain Django REST framework endpoint and bare binary COPY
    rollup    pending measurements to rollups
    delay     from a POST's answer to its rollup, and to the webhook of the incident that it opens

What is compared runs in turns within the run, because machines have moods: ratios of medians are the result,
absolute figures say what this machine gave just then. Another benchmark is a module with `run(bench)` that
returns a Section (report.py), its sizes in scale.py, and a line in BENCHMARKS of __main__.py.
"""
