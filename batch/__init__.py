"""Segments folders and shards of images, continues interrupted runs and writes the results."""

from batch.files import OutputError, UsageError
from batch.run import Options, Summary, segment_files

__all__ = ["Options", "OutputError", "Summary", "UsageError", "segment_files"]
