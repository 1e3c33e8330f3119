"""Whole steps of instruction tuning through TRL, packed rows: weighted ones as ratios to `SFTTrainer`'s own.

    python bench/sft.py                                # 6 layers of SmolLM2-135M's dimensions, bf16
    python bench/sft.py --layers 30 --lora --dtype fp32
    python bench/sft.py --samples 1024 --log-only      # what writing every sample's loss takes, alone

Synthetic conversations of 40 to 200 tokens, a third of each a prompt, packed (bfd) into rows of 512; four rows a step,
one a micro-batch. Trainers take turns in one process, step by step; medians. CPU time, where others use the machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from step import WARMUP, measure, report  # before torch: it says how threads wait

import torch  # isort: skip
import datasets  # isort: skip
import peft  # isort: skip
import tokenizers  # isort: skip
import transformers  # isort: skip
from trl import SFTConfig, SFTTrainer  # isort: skip

from samplewise.core.samples import as_samples
from samplewise.engine.sample_log import SampleLog
from samplewise.trainers.trl import WeightedSFTTrainer

VOCABULARY, LONGEST, ROWS = 49_152, 512, 4
VARIANTS = {
    "plain": None,
    "one_pass": "ir_dro(r=1.0)",
    "one_pass, samples logged": "ir_dro(r=1.0)",
    "two_pass, all kept": "chain(ir_dro(r=1.0), clip_weights(10.0))",
    "two_pass, 1/2 kept": "top_k(share=0.5)",
    "random 1/2 kept": "random_keep(share=0.5)",
}


def conversations(count: int) -> datasets.Dataset:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 201, (count,), generator=generator).tolist()
    rows = [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
    labels = [[-100] * (len(row) // 3) + row[len(row) // 3 :] for row in rows]
    return datasets.Dataset.from_dict({"input_ids": rows, "labels": labels})


def make(name: str, rule: str | None, given: argparse.Namespace, folder: Path) -> SFTTrainer:
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=given.layers,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=0,
        )
    )  # fmt: skip
    args = SFTConfig(
        str(folder), per_device_train_batch_size=1, gradient_accumulation_steps=ROWS, max_steps=WARMUP + given.rounds,
        packing=True, max_length=LONGEST, bf16=given.dtype == "bf16", use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, logging_steps=1000, learning_rate=1e-5,
        gradient_checkpointing=False,
    )  # fmt: skip
    lora = peft.LoraConfig(r=16, target_modules="all-linear") if given.lora else None
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a")),
        pad_token="a", eos_token="a",
    )  # fmt: skip
    data = conversations(60 * (WARMUP + given.rounds))
    shared = {"train_dataset": data, "processing_class": words, "peft_config": lora}
    if rule is None:
        return SFTTrainer(model, args, **shared)
    log = folder / name if "logged" in name else None
    return WeightedSFTTrainer(model, args, rule=rule, log_samples=log, **shared)


def log_alone(samples: int, steps: int = 200) -> None:
    """Milliseconds a step that `log_samples` takes, what it writes included."""
    generator = torch.Generator().manual_seed(0)
    step = as_samples(torch.rand(samples, generator=generator), ids=torch.randint(2**62, (samples,)))
    with tempfile.TemporaryDirectory() as folder:
        log, start = SampleLog(folder), time.process_time()
        for number in range(1, steps + 1):
            log.add(number, step, torch.ones(samples))
        log.flush()
        spent = (time.process_time() - start) / steps * 1000
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / steps / samples
    print(f"{samples} samples a step: {spent:.3f} ms CPU a step, {size:.1f} bytes a sample, mean of {steps} steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--lora", action="store_true", help="adapters on all linear layers but the head")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--log-only", action="store_true")
    given = parser.parse_args()
    if given.log_only:
        return log_alone(given.samples)
    names = ["plain", *(name for name in given.variants if name != "plain")]
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make(name, VARIANTS[name], given, Path(folder)) for name in names}
        taken = measure(trainers, given.rounds)
    title = f"TRL, {given.layers} layers, {ROWS} × {LONGEST} packed, {given.dtype}{', LoRA' if given.lora else ''}"
    return report(f"{title}, {torch.get_num_threads()} threads", taken)


if __name__ == "__main__":
    main()
