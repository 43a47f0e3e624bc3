"""How fast the product is, measured in one run on servers of its own: `make bench`.

    ingest       measurements/s over HTTP, beside a plain Django REST framework endpoint and bare binary COPY
    rollup       pending measurements to rollups
    status       28 days of six series out of rollups, beside one day out of raw measurements
    evaluation   all rules of a thousand features, all quiet and all firing
    percentiles  how far off they are out of histograms
    storage      bytes a raw measurement, a minute and an hour
    pages        server time and queries of the overview and of a feature's page
    delay        from a POST's answer to its rollup, and to the webhook of the incident that it opens
    hour         an hour of history at 2000 measurements/s, while pages are looked at and rules evaluated
    growth       a small database and a large one: what becomes slower

What is compared runs in turns within the run, because machines have moods: ratios of medians are the result,
absolute figures say what this machine gave just then. Another benchmark is a module with `run(bench)` that
returns a Section (report.py), its sizes in scale.py, and a line in BENCHMARKS of __main__.py.
"""
