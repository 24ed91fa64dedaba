"""Folders and shards of images: which ones, going on after a stop, what is written."""

from batch.files import OutputError, UsageError
from batch.run import Options, Summary, segment_files

__all__ = ["Options", "OutputError", "Summary", "UsageError", "segment_files"]
