"""Works through a folder of images: which ones, going on after a stop, what is written."""

from batch.inputs import UsageError
from batch.report import OutputError
from batch.run import Options, Summary, segment_files

__all__ = ["Options", "OutputError", "Summary", "UsageError", "segment_files"]
