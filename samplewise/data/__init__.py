"""Text corpora to windows of tokens: read_documents, deduplicate, split_documents, cut_windows; the same in training
and scoring.
"""

from samplewise.data.collate import PadCollator
from samplewise.data.dataset import StreamedWindows, WindowDataset
from samplewise.data.deduplicate import Deduplicated, deduplicate
from samplewise.data.ids import document_id, window_id
from samplewise.data.read import Document, ReadReport, read_documents
from samplewise.data.split import split_documents
from samplewise.data.windows import Prefix, Window, WindowReport, cut_windows, prefix_of

__all__ = [
    "Deduplicated",
    "Document",
    "PadCollator",
    "Prefix",
    "ReadReport",
    "StreamedWindows",
    "Window",
    "WindowDataset",
    "WindowReport",
    "cut_windows",
    "deduplicate",
    "document_id",
    "prefix_of",
    "read_documents",
    "split_documents",
    "window_id",
]
