"""Text corpora to windows of tokens: read_documents, deduplicate, split_documents, cut_windows; instruction data to
conversations in tokens: read_instructions, encode_conversations, to_dataset. The same in training and scoring.
"""

from typing import TYPE_CHECKING

from samplewise.core.lazy import names_from

if TYPE_CHECKING:
    from samplewise.data.chat import ChatReport, Example, encode_conversations, to_dataset
    from samplewise.data.collate import PadCollator
    from samplewise.data.conversation import Conversation, Message, group_numbers
    from samplewise.data.dataset import StreamedWindows, WindowDataset
    from samplewise.data.ids import document_id, instruction_id, window_id
    from samplewise.data.instructions import InstructionReport, read_instructions
    from samplewise.data.near_duplicates import Deduplicated, deduplicate
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

_PLACES = {
    "ChatReport": "samplewise.data.chat",
    "Example": "samplewise.data.chat",
    "encode_conversations": "samplewise.data.chat",
    "to_dataset": "samplewise.data.chat",
    "PadCollator": "samplewise.data.collate",
    "Conversation": "samplewise.data.conversation",
    "Message": "samplewise.data.conversation",
    "group_numbers": "samplewise.data.conversation",
    "StreamedWindows": "samplewise.data.dataset",
    "WindowDataset": "samplewise.data.dataset",
    "Deduplicated": "samplewise.data.near_duplicates",
    "deduplicate": "samplewise.data.near_duplicates",
    "document_id": "samplewise.data.ids",
    "instruction_id": "samplewise.data.ids",
    "window_id": "samplewise.data.ids",
    "InstructionReport": "samplewise.data.instructions",
    "read_instructions": "samplewise.data.instructions",
    "Document": "samplewise.data.read",
    "ReadReport": "samplewise.data.read",
    "read_documents": "samplewise.data.read",
    "split_documents": "samplewise.data.split",
    "ChatTemplate": "samplewise.data.template",
    "chat_template": "samplewise.data.template",
    "Prefix": "samplewise.data.windows",
    "Window": "samplewise.data.windows",
    "WindowReport": "samplewise.data.windows",
    "cut_windows": "samplewise.data.windows",
    "prefix_of": "samplewise.data.windows",
}
"""Each name with its module, which is imported when the name is used: reading needs neither torch nor transformers."""
__getattr__, __dir__ = names_from(__name__, _PLACES)
