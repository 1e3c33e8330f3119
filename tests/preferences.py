"""Preference pairs for tests: a tiny policy and reference, pairs of random words, and DPO's loss by hand."""

import datasets
import tiny
import torch
import transformers
import world
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import logsigmoid
from transformers import TrainerCallback
from trl import DPOConfig

PAIRS = 8
WORDS = [*world.SPECIAL, *(f"w{i}" for i in range(tiny.VOCABULARY - len(world.SPECIAL)))]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def pairs(n: int = PAIRS, **columns) -> datasets.Dataset:
    """Prompts and answers of random words, of lengths that differ within a pair and between pairs."""
    generator = torch.Generator().manual_seed(2)

    def words(length: int) -> str:
        return " ".join(WORDS[k] for k in torch.randint(4, len(WORDS), (length,), generator=generator))

    rows = [(words(2 + k % 3), f" {words(1 + k)}", f" {words(2 + 3 * k % 7)}") for k in range(n)]
    prompt, chosen, rejected = (list(column) for column in zip(*rows, strict=True))
    return datasets.Dataset.from_dict({"prompt": prompt, "chosen": chosen, "rejected": rejected, **columns})


def policy() -> transformers.PreTrainedModel:
    return tiny.model(initializer_range=0.3)


def reference() -> transformers.PreTrainedModel:
    return tiny.model(seed=1, initializer_range=0.3)


def config(tmp_path, accumulation: int = 1, rows: int = PAIRS, **options) -> DPOConfig:
    defaults = {
        "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "per_device_train_batch_size": rows // accumulation, "gradient_accumulation_steps": accumulation,
        "max_steps": 2, "learning_rate": 0.0, "disable_tqdm": True, "seed": 3, "dataloader_pin_memory": False,
        "bf16": False, "max_grad_norm": 0.0, tiny.CHECKPOINTING: False, "beta": 0.5,
    }  # fmt: skip
    return DPOConfig(**{**defaults, **options})


class Gradients(TrainerCallback):
    """What the optimizer sees at each step."""

    def __init__(self):
        self.steps: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.requires_grad]))


def close(found: torch.Tensor, want: torch.Tensor, most: float = 1e-6) -> bool:
    return float((found.double() - want.double()).norm()) <= most * float(want.double().norm())


def logged(trainer) -> list[dict]:
    timings = ("runtime", "per_second", "epoch", "total_flos", "samplewise")
    rows = [{k: v for k, v in row.items() if not any(t in k for t in timings)} for row in trainer.state.log_history]
    return [row for row in rows if "train_loss" not in row]


# ---- by hand ----


def log_likelihood(model: torch.nn.Module, prompt: str, answer: str) -> torch.Tensor:
    """Σ log p of the answer's tokens and of the end, from logits."""
    encode = tokenizer()
    start, rest = encode(prompt)["input_ids"], encode(f"{answer} </s>")["input_ids"]
    ids = torch.tensor([start + rest])
    rows = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return rows.gather(1, ids[0, 1:, None])[len(start) - 1 :].sum()


def by_hand(model, data, frozen=None, beta: float = 0.5) -> torch.Tensor:
    """[n] −log σ(β·margin) of the pairs, in fp64: Rafailov et al., 2023, equation 7."""
    frozen, losses = frozen or reference().double(), []
    for row in data:
        margin = 0.0
        for answer, sign in ((row["chosen"], 1), (row["rejected"], -1)):
            with torch.no_grad():
                before = log_likelihood(frozen, row["prompt"], answer)
            margin = margin + sign * (log_likelihood(model, row["prompt"], answer) - before)
        losses.append(-logsigmoid(beta * margin))
    return torch.stack(losses)


def gradient(value: torch.Tensor, parameters) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(parameters), retain_graph=True)])
