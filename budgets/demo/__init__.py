"""Four features with a believable past and present, for a first look at the product.

Arrivals, answer lengths, first-token times and component times come from the published measurements
in ``data/``; each folder there names its origin and licence.
"""
