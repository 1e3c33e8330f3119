"""A commented run file to begin with: every key that a first run needs, and the ones that are changed most."""

from __future__ import annotations

import json

TEXT = """\
data:
  kind: text
  path: {path}{name}
{text_field}  max_length: 512                        # tokens of a window at most
  held_out: 0.05                         # share of documents held out, by a hash of their text
  held_out_documents: 200                # evaluate at most so many of them
  # duplicates: remove                   # keep: what repeats within the training text stays
"""
INSTRUCTIONS = """\
data:
  kind: instructions                     # {shape}: a sample is a conversation, its loss is over the answers
  path: {path}{name}
  max_length: 1024                       # tokens of a conversation, and of a packed row
  # turns: false                         # true: every answer is a sample of its own
  # chat_template: null                  # the model's own; plain for a model without one
  held_out: 0.05                         # share of conversations held out, by a hash of their prompt
  held_out_conversations: 200            # evaluate at most so many of them
"""
RUN = """\
# samplewise train {file} [key=value …]        for example training.max_steps=20 output=runs/short
# Everything that is commented out stands at its default. All keys: {every}

model: {model}  # a hub id, a folder as save_pretrained writes it, or a .gguf file

{data}
rule: {rule}  # `samplewise rules` lists the rules, `samplewise weights` shows one
# per: sample                            # token: weigh tokens, as the plain Trainer's loss does
# log_samples: null                      # a folder for the loss and weight of every sample at every step

# lora: {{r: 16, alpha: 32}}               # train adapters instead of the whole model; needs the extra trl

training:                                # {arguments}, names unchanged
  learning_rate: {rate}
  per_device_train_batch_size: 8
  gradient_accumulation_steps: 4         # weights are exact over the 32 rows of the whole step
  max_steps: 200                         # or num_train_epochs: 1
{packing}  save_steps: 100
  save_total_limit: 2                    # a checkpoint is three times as large as the model

output: {output}  # a folder of its own: results.json, run.png, the model, checkpoints
"""


def run_text(
    model: str, path: str, rule: str, output: str, *,
    shape: str | None = None, text_field: str | None = None, name: str | None = None, file: str = "run.yaml",
) -> str:  # fmt: skip
    """The text of a run file.

    shape: of the rows of conversations; None for text. text_field: of the text, where records have fields.
    name: the configuration of a `datasets` name. file: what it will be called.
    """
    instructions = shape is not None
    more = f"\n  name: {_quoted(name)}" if name is not None else ""
    field = f"  text_field: {_quoted(text_field)}\n" if text_field is not None else ""
    form = INSTRUCTIONS if instructions else TEXT
    data = form.format(path=_quoted(path), name=more, text_field=field, shape=shape)
    return RUN.format(
        model=_quoted(model), data=data, rule=_quoted(rule), output=_quoted(output), file=file,
        every=f"examples/{'instructions' if instructions else 'pretrain'}.yaml",
        arguments="trl.SFTConfig" if instructions else "transformers.TrainingArguments",
        rate="1.0e-5" if instructions else "2.0e-5", packing="  packing: true\n" if instructions else "",
    )  # fmt: skip


def _quoted(text: str) -> str:
    """A YAML scalar in double quotes, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False)
