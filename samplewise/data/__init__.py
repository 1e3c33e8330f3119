"""Text corpora to windows of tokens: read_documents, deduplicate, split_documents, cut_windows; instruction data to
conversations in tokens: read_instructions, encode_conversations, to_dataset. The same in training and scoring.
"""

from samplewise.data.chat import ChatReport, Example, encode_conversations, to_dataset
from samplewise.data.collate import PadCollator
from samplewise.data.conversation import Conversation, Message, group_numbers
from samplewise.data.dataset import StreamedWindows, WindowDataset
from samplewise.data.deduplicate import Deduplicated, deduplicate
from samplewise.data.ids import document_id, instruction_id, window_id
from samplewise.data.instructions import InstructionReport, read_instructions
from samplewise.data.read import Document, ReadReport, read_documents
from samplewise.data.split import split_documents
from samplewise.data.template import ChatTemplate, chat_template
from samplewise.data.windows import Prefix, Window, WindowReport, cut_windows, prefix_of

__all__ = [
    "ChatReport",
    "ChatTemplate",
    "Conversation",
    "Deduplicated",
    "Document",
    "Example",
    "InstructionReport",
    "Message",
    "PadCollator",
    "Prefix",
    "ReadReport",
    "StreamedWindows",
    "Window",
    "WindowDataset",
    "WindowReport",
    "chat_template",
    "cut_windows",
    "deduplicate",
    "document_id",
    "encode_conversations",
    "group_numbers",
    "instruction_id",
    "prefix_of",
    "read_documents",
    "read_instructions",
    "split_documents",
    "to_dataset",
    "window_id",
]
