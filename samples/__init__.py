"""Makes training samples: photos and logos on disk, marks, layouts, random numbers, batches.

`dataset.py` puts the parts together.
"""

IGNORE = 255  # value of mask and label where nobody can decide; no weight in loss or metrics
