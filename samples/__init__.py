"""The parts of a training sample: files, marks, layouts, random numbers, batches."""

IGNORE = 255  # in mask and label: undecidable; loss and metrics leave it out
