"""The one engine: every loop that trains on weighted samples holds a `Step`, and knows nothing of rules.

Data goes one way: micro-batches in → sample losses → Samples → Plan → micro-batches with coefficients → gradient →
StepResult → observers.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.clock import Clock
from samplewise.core.distributed import among, check_same, largest, rank
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import advise
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import Epoch, Rule, State
from samplewise.engine.base_weights import TokenMean, loop_scale, with_base_weights
from samplewise.engine.context import StepContext
from samplewise.engine.figures import Figures
from samplewise.engine.loss_history import LossHistory
from samplewise.engine.modes import Mode, RetryInTwoPasses, Stored, TwoPass, refuse_own_term, select_mode
from samplewise.engine.observers import Observer
from samplewise.engine.options import WeightingOptions
from samplewise.engine.padding import without_left_padding
from samplewise.engine.parallel import ALL_RANKS, parallel_ranks
from samplewise.engine.plan import ShortSteps
from samplewise.engine.reading import read_step
from samplewise.engine.reference import Reference
from samplewise.engine.result import StepResult
from samplewise.engine.rows import capacity_of, is_packed, rows_of
from samplewise.engine.same_rows import total_base_weight
from samplewise.engine.sample_log import SampleLog
from samplewise.engine.watcher import Watcher
from samplewise.losses.attach import Attached, attach_forward
from samplewise.losses.body import decoder_of, unwrapped
from samplewise.losses.compiled import say_compiled, uncompiled
from samplewise.losses.kernels.fallbacks import counted
from samplewise.losses.model_facts import has_dropout
from samplewise.losses.own_terms import has_own_term
from samplewise.rules import resolve

logger = logging.getLogger("samplewise")
RESERVED = "samplewise_"  # keys of a state that are not the rule's begin so


class Step:
    """Plans one optimizer step at a time over all its micro-batches and ranks, and divides its gradient once.

    options: how samples are weighed. device: where the model computes. observers: what sees every finished step.
    A loop calls, for every optimizer step: `prepare` with all its micro-batches; `loss` and backward for each that it
    gets back, in order; `retry` where `loss` raised `RetryInTwoPasses`; `finish` after the last backward, before
    clipping. Gradients must be zero before, and are averaged over ranks by whoever synchronizes them.

    ```python
    step = Step(WeightingOptions(rule="ir_dro(r=1.0)"), device)
    step.attach(model)
    for micro in step.prepare(model, batches):
        step.loss(model, micro).backward()
    result = step.finish(model.parameters)
    ```
    """

    def __init__(self, options: WeightingOptions, device: torch.device, observers: Iterable[Observer] = ()) -> None:
        self.options, self.device = options, device
        self.rule: Rule = options.rule
        self.reference = Reference(options)
        self.figures, self.watcher = Figures(), Watcher(self.rule)
        self.log = None if options.log_samples is None else SampleLog(options.log_samples)
        self.own: list[Observer] = [self.figures, self.watcher, *([] if self.log is None else [self.log])]
        self.added = list(observers)
        self.attached: Attached | None = None
        self.parallel = ALL_RANKS
        self.begin()

    @property
    def observers(self) -> list[Observer]:
        """All that see a finished step, the library's own first."""
        return [*([] if self.history is None else [self.history]), *self.own, *self.added]

    # ---- a run ----

    def begin(self) -> None:
        """Forget every step: the rule's first state, an empty loss history."""
        self.rule = self.options.rule
        self.state: State = self.rule.init()
        self.steps = 0
        self.same_rule = False  # whether the state is a checkpoint's
        wanted = self.options.loss_from == "stored" or self.rule.epochs is not None
        self.history = LossHistory(self.options.min_stored_corr) if wanted else None
        self.clock, self._spent, self.short, self.fallbacks = Clock(), {}, ShortSteps(), Counter[str]()
        self._mode: Mode | None = None
        self._looked = self._resolved = self._packing_looked = False

    def claim(self, trial: Any = None) -> None:
        """Before a new run. Errors: SamplewiseError where its sample log has another run's folder, or many trials'."""
        if self.log is not None:
            self.log.claim(trial)

    def skip_to(self, step: int, source: object) -> None:
        """Resume after `step` steps that another trainer took, whose checkpoint `source` is."""
        logger.warning("%s holds no state of a rule: %s starts from its initial state", source, self.options.rule)
        self.steps = step

    def start(self) -> None:
        """Tell the observers that steps follow, after `begin`, and after `load_state_dict` where a run is resumed."""
        for observer in self.observers:
            observer.on_begin(self.steps)

    def flush(self) -> None:
        """Write what observers hold back: before a checkpoint counts, and at the end of a run."""
        for observer in self.observers:
            observer.flush()

    def set_total_steps(self, total: int) -> Rule:
        """Turn the rule's shares of the run into steps; only the first call of a run counts."""
        if not self._resolved:
            self._resolved = True
            resolved = resolve(self.rule, total)
            if resolved is not self.rule and not self.same_rule:
                self.state = resolved.init()
            self.rule = resolved
        return self.rule

    def begin_data(self, stored_losses: Tensor) -> None:
        """After `set_total_steps`: tell the rule the stored losses [n] of all the data, NaN where there is none."""
        if self.rule.begin_data is not None and not self.same_rule:
            self.state = self.rule.begin_data(stored_losses, self.state)

    def begin_epoch(self, epoch: Epoch) -> None:
        """Start an epoch for a rule that decides once an epoch."""
        if self.rule.epochs is not None:
            self.state = self.rule.epochs.begin(epoch, self.state)

    def attach(
        self, model: nn.Module, *, head: str = "whole", check: bool = True, compiles: bool = False,
        same_rows: bool = False,
    ) -> None:  # fmt: skip
        """Make `model` return sample losses until `detach`. It is the model itself, before DDP.

        head: "whole"; "sharded" (FSDP2: whole inside the forward only, where it is looked at).
        check: compare both paths to the losses on the first micro-batch. compiles: the loop is about to compile it.
        same_rows: the loop gives the ranks of tensor parallelism the same rows; else such a model is an error.
        Errors: SamplewiseError where losses cannot be had without logits, unless options.logits is "allow".
        """
        self.detach()
        model, compiles = uncompiled(model), compiles or uncompiled(model) is not model
        self.parallel = parallel_ranks(model, self.device, same_rows)
        if self.options.normalize == "micro":
            refuse_own_term(model)
        chosen = {name: getattr(self.options, name) for name in ("logits", "losses", "backend")}
        self.attached = attach_forward(model, head=head, **chosen)
        self.attached.checked |= not check
        self.sharded = head != "whole" or not check
        self.reference.check(model)
        say_compiled(model, decoder_of(unwrapped(model)), by_host=compiles)

    def detach(self) -> None:
        """Give the model its own forward back."""
        if self.attached is not None:
            self.attached.detach()

    # ---- one optimizer step ----

    def prepare(
        self, model: nn.Module, batches: Sequence[Mapping[str, Any] | MicroBatch], *, mean: TokenMean | None = None,
        can_rescale: bool = True,
    ) -> list[MicroBatch]:  # fmt: skip
        """The micro-batches to run: of those given, at most as many, on all ranks as many.

        model: as the loop calls it, wrapped or not. batches: as a collator makes them (`read_micro_batch`), all of the
        step, as many on every rank. mean: how the loop averages over tokens, for per="token".
        can_rescale: whether gradients may be multiplied between the last backward and clipping.
        """
        with self._at("planning"):
            assert self.attached is not None, "attach comes first"
            given = read_step(batches, self.device, own_loss=self.options.losses is not None)
            self.fallbacks.clear()
            self.given, total, scale = self._prepared(given, mean or TokenMean())
            self._look_at_packing(model)
            self.retried = False
            self._mode = self._select(self._context(total, scale), can_rescale)
            return self._begun(model)

    def _prepared(self, batches: list[MicroBatch], mean: TokenMean) -> tuple[list[MicroBatch], float, float]:
        """The micro-batches with base weights and reference losses, the sum of these weights, and the loop's scale."""
        batches, unpredicted = without_left_padding(batches, self.device)
        scale = loop_scale(batches, mean, unpredicted, self.device) if self.options.per == "token" else 1.0
        batches = with_base_weights(batches, self.options.per, mean, self.options.norm)
        total = total_base_weight(batches, self.parallel, self.device, step=self.steps + 1, inputs=not self._looked)
        self._first_look(batches)
        self.referred = self.reference.runs(batches[0])
        return self.reference.add(batches, self.device, self.clock), total, scale

    def _context(self, total: float, scale: float) -> StepContext:
        assert self.attached is not None
        options = self.options
        return StepContext(
            step=self.steps + 1, rule=self.rule, state=self.state, forward=self.attached.forward, device=self.device,
            capacity=math.ceil(max(map(capacity_of, self.given)) / options.pool), per=options.per,
            max_nonfinite=options.max_nonfinite, unit=max(1.0, total), scale=scale, token_rule=options.token_rule,
            clock=self.clock, own_term=has_own_term(self.attached.model), allow_negative=options.allow_negative,
            norm=options.norm,
        )  # fmt: skip

    def _select(self, context: StepContext, can_rescale: bool) -> Mode:
        if self.history is not None and self.options.loss_from == "stored":
            if not self.history.is_stale(context.step):
                return Stored(context, self.history)
            self.history.compare_later(self.given, self.device)
        return select_mode(context, normalize=self.options.normalize, can_rescale=can_rescale)

    def _begun(self, model: nn.Module) -> list[MicroBatch]:
        assert self._mode is not None
        with self.clock.timed("rule"):
            micro_batches = self._mode.begin(model, self.given)
        self.left = self.parallel.backwards(len(micro_batches))
        return micro_batches

    def loss(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """[] the loss to call backward on, for each micro-batch of `prepare`, in order.

        Errors: RetryInTwoPasses in the step's last, where the unnormalized weights cannot be used: discard the step's
        gradients, and run what `retry` gives.
        """
        with self._at("training"):
            assert self._mode is not None, "prepare comes first"
            objective = self._mode.objective(model, micro)
            self.left -= 1
            return objective

    def retry(self, model: nn.Module, reason: RetryInTwoPasses) -> list[MicroBatch]:
        """The same step in two passes: the micro-batches to run once the gradients are zero again."""
        with self._at("planning again"):
            assert self._mode is not None
            context = self._mode.context
            logger.warning("step %d runs again in two passes: %s", context.step, reason)
            self.retried = True
            self._mode = TwoPass(context)
            return self._begun(model)

    def finish(self, parameters: Callable[[], Iterable[Tensor]]) -> StepResult:
        """Divide the gradient, before any clipping; take the rule's new state; tell the observers."""
        with self._at("finishing"):
            if self._mode is None or self.left:
                raise SamplewiseError(
                    "finish", expected="every planned micro-batch passed to backward", got="some that were not passed",
                    remedy="Call step.backward(micro) for every micro in step.plan(batches).",
                )  # fmt: skip
            with self.clock.timed("train"):
                self._mode.end(parameters)
            result = self._result(self._mode)
            self._say(result)
            self.state, self.steps, self._mode = result.state, result.step, None
            for observer in self.observers:
                observer.on_step(result)
            if self.history is not None and self.options.loss_from == "stored":
                self.figures.note(self.history.staleness.figures)
            return result

    def _result(self, mode: Mode) -> StepResult:
        plan, samples = mode.plan, mode.samples
        discarded, referred = 3 * self.retried, self.referred
        units = mode.scored_tokens + 3 * mode.run_tokens + (discarded + referred) * mode.all_tokens
        spent = {phase: seconds - self._spent.get(phase, 0.0) for phase, seconds in self.clock.items()}
        self._spent = dict(self.clock)
        return StepResult(
            step=mode.context.step, rule=self.rule, state=plan.state, mode=mode.name, passes=mode.passes,
            loss=mode.loss, figures=plan.figures, samples=samples, weights=plan.weights, weighed=mode.weighed,
            nonfinite=plan.nonfinite, shortfall=plan.shortfall, retried=self.retried, tokens=mode.trained_tokens,
            units=units, reference_tokens=referred * mode.all_tokens, seconds=spent, router=mode.router,
            fallbacks=dict(self.fallbacks),
        )  # fmt: skip

    def _say(self, result: StepResult) -> None:
        if result.nonfinite:
            logger.warning("step %d: left out samples with a non-finite loss: ids %s", result.step, result.nonfinite)
        self.short.take(result.shortfall, self.rule, result.step)
        if getattr(self.figures.last, "mode", None) != result.mode:
            logger.info("step %d: rule %s, per %s, mode %s", result.step, self.rule, self.options.per, result.mode)

    def _first_look(self, batches: Sequence[MicroBatch]) -> None:
        """Once a run: does the logits-free path agree with the model's logits, and can rows be cut apart?"""
        if self._looked:
            return
        self._looked, micro = True, batches[0]
        assert self.attached is not None
        if not is_packed(micro):
            rows_of(micro)  # refuses what cannot be cut by rows
        if has_dropout(self.attached.model):
            logger.info("the model has dropout: one pass weighs losses with dropout, two passes score without")
        self.attached.check(micro, allow_logits=self.options.logits == "allow")

    def _look_at_packing(self, model: nn.Module) -> None:
        """Before a run's first packed step; where parameters are sharded, on all ranks in the first step."""
        if self._packing_looked or self.attached is None or self.options.losses is not None:
            return
        packed = next((micro for micro in self.given if is_packed(micro)), None)
        self._packing_looked = self.sharded or packed is not None
        if largest(packed is not None, self.device) if self.sharded else packed is not None:
            self.attached.check_packing(model if self.sharded else self.attached.model, packed or self.given[0])

    @contextmanager
    def _at(self, doing: str) -> Iterator[None]:
        """An error that leaves the step says where it happened, once. Ranks are those that have rows of their own."""
        try:
            with among(self.parallel.data), counted(self.fallbacks):
                yield
        except RetryInTwoPasses:
            raise
        except Exception as error:
            if not any("optimizer step" in note for note in getattr(error, "__notes__", [])):
                mode = self._mode.name if self._mode is not None else "not chosen yet"
                error.add_note(f"In optimizer step {self.steps + 1}, mode {mode}, rank {rank()}, while {doing}.")
                advise(error)
            raise

    # ---- what must agree, and what is saved ----

    def check_ranks(self, more: Mapping[str, Any]) -> None:
        """Errors: the same SamplewiseError on all ranks where options, steps or more of the loop's facts differ.

        They would weigh other samples, or wait for ever.
        """
        facts = self.options.of_all_ranks() | {"step": self.steps, "torch.__version__": torch.__version__, **more}
        check_same({name: str(value) for name, value in facts.items()}, self.device)

    def state_dict(self) -> State:
        """The rule's state and the observers': flat, numbers and tensors."""
        return {**self.state, **{key: value for each in self.observers for key, value in each.state_dict().items()}}

    def load_state_dict(self, state: State, *, steps: int, rule: str) -> None:
        """Resume after `steps` steps. rule: the expression that the state is of; that of another is left alone."""
        self.steps = steps
        self.same_rule = rule == self.options.rule.expression
        if not self.same_rule:
            logger.warning("the checkpoint's rule is %s: %s starts from its initial state", rule, self.options.rule)
            return
        self.state = {key: value for key, value in state.items() if not key.startswith(RESERVED)}
        for observer in self.observers:
            observer.load_state_dict(state)
