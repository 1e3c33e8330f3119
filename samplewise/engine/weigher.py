"""A rule and what it remembers: weights for a plain training loop, one call a step."""

from __future__ import annotations

from torch import Tensor

from samplewise.core.rule import Rule, State
from samplewise.core.samples import Values, as_samples
from samplewise.engine.plan import Plan, ShortSteps, as_rule, plan_wide
from samplewise.rules.epochs import refuse_token_rule


class Weigher:
    """`weights = weigher(losses)` in a loop: each call is the next step of the rule.

    rule: or its text, with or without memory: a warm-up, a schedule or `group_dro` moves on with every call;
        `random_keep` draws anew. Shares of the run in it have to be steps:
        `samplewise.rules.resolve(rule, total_steps)`.
    state: what the rule remembers, numbers and tensors, to be saved and set with the rest of a checkpoint.
    steps: how many it has seen. plan: the last one's, with its figures; None before the first. A step too short for the
        rule is warned about once.

    >>> import samplewise as sw
    >>> weigher = sw.Weigher(sw.warmup(1, sw.ir_dro(r=1.0)))
    >>> [[round(w, 3) for w in weigher([1.0, 2.0]).tolist()] for step in range(2)]
    [[1.0, 1.0], [0.538, 1.462]]
    """

    def __init__(self, rule: Rule | str) -> None:
        self.rule = as_rule(rule)
        refuse_token_rule(self.rule, "where losses of samples are given")
        self.state: State = self.rule.init()
        self.plan: Plan | None = None
        self.steps = 0
        self._short = ShortSteps()

    def __call__(
        self, losses: Values, tokens: Values | None = None, ids: Values | None = None, *,
        weight: Values | None = None, reference: Values | None = None, group: Values | None = None,
        stored_loss: Values | None = None,
    ) -> Tensor:  # fmt: skip
        """[N] weights of mean 1 over the samples present; the rule has then seen the step.

        losses, tokens, weight, reference, group, stored_loss: as in `samplewise.weights`, of all samples of the
            optimizer step.
        ids: [N] whole numbers, by which ties are broken and random choices made; positions if not given.
        Errors: SamplewiseError, as in training; the state is then that of the step before.
        """
        more = {"weight": weight, "reference": reference, "group": group, "stored_loss": stored_loss}
        samples = as_samples(losses, tokens, ids, **more)
        self.plan = plan_wide(self.rule, samples, self.state)
        self.state = self.plan.state
        self._short.take(self.plan.shortfall, self.rule, self.steps)
        self.steps += 1
        return self.plan.weights.to(samples.loss.dtype)

    @property
    def no_effect(self) -> int:
        """How many steps were too short for the rule to do what it says."""
        return self._short.count
