"""Frozen records: the only things that travel between modules.

All are pydantic models (immutable, unknown fields refused), so `model_dump_json` and
`model_validate_json` are their file format. Reports keep ids, never rates alone: whoever reads one
can name each task that was gained or lost.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, computed_field

HARM_ALPHA: Final = 0.01
"""Level at which an update is called harmful, as if tasks were independent: such a night sets a whole day's episodes
aside."""


class Record(BaseModel):
    """Base of all records: immutable, strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outcome(StrEnum):
    """What a verification says. INFRA is the machine's fault and never counts as the model's.

    UNKNOWN is for collected conversations of which nobody has said how they ended; no verification gives it.
    """

    PASS = "pass"
    FAIL = "fail"
    INFRA = "infra"
    UNKNOWN = "unknown"


class Decision(StrEnum):
    """What the gate says of a candidate."""

    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


class AdapterState(StrEnum):
    """Where an adapter stands in its life. `ACTIVE` is derived from the registry's pointer."""

    STAGED = "staged"
    ACTIVE = "active"
    RETIRED = "retired"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"

    @property
    def may_serve(self) -> bool:
        """Whether it may serve, now or ever again."""
        return self not in (AdapterState.REJECTED, AdapterState.QUARANTINED)


Role = Literal["system", "user", "assistant", "tool"]


def is_empty(value: object) -> bool:
    """What is empty is left out of the JSON: records written before a field existed keep their form and hash."""
    return not value


def is_none(value: object) -> bool:
    return value is None


class ToolCall(Record):
    """A tool that the model calls. `arguments` is the JSON text that it wrote, which may be no JSON at all."""

    id: str
    name: str
    arguments: str


class Message(Record):
    """One chat message, exactly as it is (or was) sent to the model server.

    An assistant may call tools and think aloud; a tool's message answers the call `tool_call_id`.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=is_empty)
    tool_call_id: str = Field(default="", exclude_if=is_empty)
    reasoning: str = Field(default="", exclude_if=is_empty)


class Task(Record):
    """One thing to fix: broken files, what is wanted, and how to tell whether it was done.

    `id` is a content hash (see `sleepy_coder.tasks.task_id`). `command` names the check:
    `("rust-run",)` compiles and runs, and compares stdout with `expected_stdout`;
    `("rust-test",)` appends `hidden_tests` and runs `#[test]`; `("rust-check",)` only compiles;
    anything else is an argv run in the files' folder (`("cargo", "test")`, `("pytest", "-q")`, ...).
    """

    id: str
    family: str
    category: str
    language: str
    files: dict[str, str]
    prompt: str
    command: tuple[str, ...]
    origin: str
    cluster: str
    error_code: str = ""
    expected_stdout: str | None = None
    hidden_tests: str = ""
    reference: dict[str, str] | None = None


class Verdict(Record):
    """What a real compiler or test run said about some files for a task.

    `stage` is where it ended: format, cheat, compile, run, test, infra or done. `feedback` is the
    compact text shown to the model (compiler messages with line numbers); `error_signature` is
    code + message without names, paths and lines, so that equal mistakes compare equal.
    """

    outcome: Outcome
    stage: Literal["format", "cheat", "compile", "run", "test", "infra", "done"]
    error_signature: str = ""
    feedback: str = ""
    detail: str = ""
    seconds: float = 0.0
    cached: bool = False

    @classmethod
    def infra(cls, detail: str, seconds: float = 0.0) -> Self:
        """The machine's fault, which says nothing about the files."""
        return cls(outcome=Outcome.INFRA, stage="infra", detail=detail, seconds=seconds)

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS


class Reply(Record):
    """A completion. `model` is the name the server says it answered with, not the one asked for.

    `reasoning` is what the model thought before `text`, where a reasoning parser sets that apart.
    """

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning: str = Field(default="", exclude_if=is_empty)


Thoughts = dict[NonNegativeInt, str]


class Attempt(Record):
    """One turn of the agent: what was asked, what came back, what the compiler said of it.

    Of another agent's conversation there is one attempt: all of it, with the last reply as completion.
    `reply` is then that reply as a message when it holds more than text; `tools` the JSON text of what could be called;
    `first_turn` where in `messages` the first reply stands (or would): what an agent put before it is no reply.
    `thoughts` says which turns the model is known to have written, and written to their end: by the place of each (the
    reply's is the one after `messages`) what it thought before it, which agents do not always send again.
    """

    messages: tuple[Message, ...]
    completion: str
    verdict: Verdict
    served_by: str
    reply: Message | None = Field(default=None, exclude_if=is_empty)
    tools: str = Field(default="", exclude_if=is_empty)
    first_turn: int | None = Field(default=None, ge=0, exclude_if=is_none)
    thoughts: Thoughts | None = Field(default=None, exclude_if=is_none)


class Episode(Record):
    """One task worked on from start to end, with every attempt and where its outcome comes from.

    Episodes that did not come from the built-in agent may have no task; `outcome_source` says who
    says so ("verifier", "exit-code", "feedback", ...). Only outcomes of a verifier train. `reason` is why there was no
    attempt, if there was none.
    """

    id: str
    session: str
    source: str
    task: Task | None
    attempts: tuple[Attempt, ...]
    outcome: Outcome
    outcome_source: str
    served_by: str
    created: datetime
    reason: str = Field(default="", exclude_if=is_empty)


WireApi = Literal["chat", "completions", "responses", "messages", "other"]
"""The API that a client speaks: /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, or another."""

SessionSource = Literal["path", "header", "body", "cache_key", "prefix"]
"""How a request's session was known; `prefix`: its conversation continues an earlier one."""


class Exchange(Record):
    """One request through the gateway and its reply, with secrets redacted.

    `request` and `response` are JSON texts; of a streamed reply, the message that it adds up to, in the
    form in which the same API answers without streaming. `whole` is False when the reply was cut off, was
    aborted, held an error or lacked its closing event: such a reply is never trained on. Seconds are wall-clock.
    Tokens are as the server counted them, None where it did not say.
    """

    id: str
    session: str
    session_source: SessionSource
    agent: str
    wire: WireApi
    path: str
    asked_model: str
    served_by: str
    request: str
    response: str
    status: int
    streamed: bool
    whole: bool
    finish_reason: str
    started: datetime
    first_byte_seconds: float
    seconds: float
    purpose: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


class SessionCheck(Record):
    """What a verifier says of a session: `task` holds the check, and as they were the files that changed."""

    session: str
    task: Task
    verdict: Verdict


ExampleKind = Literal["replay", "passed", "hard"]
OWN: Final = "own"
"""The family of the user's own rows (`mix.sft_file`)."""


class Example(Record):
    """One training row: the literal served messages and the completion to learn.

    `provenance` says where it is from (episode id, "anchor:<task>", "dream:<task>", ...); `anchor` rows
    are the base model's own answers and are held by a KL term as well. Where `first_turn` is given, the
    assistant's turns in `messages` from there on are learned as well; where `thoughts` are given, the turns at their
    places are, and no others. `reply`, `tools` and `thoughts` are those of `Attempt`.
    """

    messages: tuple[Message, ...]
    completion: str
    kind: ExampleKind
    task_id: str
    family: str
    provenance: str
    weight: float = 1.0
    anchor: bool = False
    reply: Message | None = Field(default=None, exclude_if=is_empty)
    tools: str = Field(default="", exclude_if=is_empty)
    first_turn: int | None = Field(default=None, ge=0, exclude_if=is_none)
    thoughts: Thoughts | None = Field(default=None, exclude_if=is_none)


class LeftOut(Record):
    """What a night could not learn from.

    `leaks` are episodes put aside because they are too close to a frozen task. `too_long` are passed conversations
    none of which fits in `model.max_length`; of others `cut_turns` lie beyond it.
    """

    leaks: int = 0
    too_long: int = 0
    cut_turns: int = 0


def _is_nothing(value: object) -> bool:
    return value == LeftOut()


class TrainingMix(Record):
    """The rows of one night. `shares` are the ones met; `notes` say why they differ from the asked ones.

    `tasks` are those that a trainer with a verifier of its own answers anew while it learns (GRPO). Where these are
    learned from, the examples are not: `counts` tells the tasks then, and no kind has a share.
    """

    examples: tuple[Example, ...]
    shares: dict[str, float]
    counts: dict[str, int]
    notes: tuple[str, ...]
    seed: int
    sha256: str
    tasks: tuple[Task, ...] = Field(default=(), exclude_if=is_empty)
    left_out: LeftOut = Field(default=LeftOut(), exclude_if=_is_nothing)


Objective = Literal["sft", "grpo", "sdft", "none"]
"""What a recipe minimises: NLL of verified rows, GRPO's or SDFT's loss on own rollouts, or nothing at all."""


class Recipe(Record):
    """How one LoRA cycle was trained. Learning rate in absolute units, `steps` optimiser steps.

    `prompt_loss` says that the loss covered the prompt too; `sam_rho` is the radius of SAM's ascent (0: none);
    after each of the steps in `checkpoints` the weights are kept, to be chosen from by execution, and measured: on the
    tasks that are held out (a share `held_out` of them), and by their KL to the base, which ends training above
    `kl_limit` (0: never). `dual` trains a fast LoRA and serves its slow average; both go on in the next night.
    `rebase` begins with a fresh adapter, whatever serves.
    """

    name: str
    learning_rate: float
    rank: int
    alpha: int
    dropout: float
    steps: int
    batch_size: int
    warmup_steps: int
    ema: float
    kl_anchor: float
    kl_verified: float
    max_length: int
    seed: int
    objective: Objective = Field(default="sft", exclude_if=lambda value: value == "sft")
    prompt_loss: bool = Field(default=False, exclude_if=is_empty)
    sam_rho: float = Field(default=0.0, exclude_if=is_empty)
    checkpoints: tuple[int, ...] = Field(default=(), exclude_if=is_empty)
    held_out: float = Field(default=0.0, exclude_if=is_empty)
    kl_limit: float = Field(default=0.0, exclude_if=is_empty)
    dual: bool = Field(default=False, exclude_if=is_empty)
    rebase: bool = Field(default=False, exclude_if=is_empty)


class Adapter(Record):
    """One LoRA on disk. `sha256` covers adapter_model.safetensors and adapter_config.json."""

    name: str
    cycle: int
    parent: str | None
    path: Path
    sha256: str
    state: AdapterState


class Sample(Record):
    """One evaluated completion. `served_by` is the model name in the reply; seed as it was sent."""

    task_id: str
    family: str
    category: str = ""
    index: int
    seed: int
    outcome: Outcome
    served_by: str
    error_signature: str = ""
    completion: str = ""


class EvalReport(Record):
    """All samples of one model on one task set, and the proof of which weights answered.

    `weights_sha256` is the hash of the weights on disk when they were loaded; `set_id` the content
    hash of the task set; `stack` whatever else must be equal for two reports to be comparable.
    """

    model: str
    arm: Literal["baseline", "current", "candidate", "other"]
    weights_sha256: str
    set_id: str
    stack: str
    samples: tuple[Sample, ...]
    seconds: float

    @computed_field
    @property
    def pass_rate(self) -> float:
        """Mean over tasks of the share of passed samples (pass@1); INFRA samples are left out."""
        by_task: dict[str, list[bool]] = {}
        for sample in self.samples:
            if sample.outcome is not Outcome.INFRA:
                by_task.setdefault(sample.task_id, []).append(sample.outcome is Outcome.PASS)
        if not by_task:
            return 0.0
        return sum(sum(p) / len(p) for p in by_task.values()) / len(by_task)

    @property
    def infra(self) -> int:
        """How many samples could not be judged."""
        return sum(sample.outcome is Outcome.INFRA for sample in self.samples)

    def without_completions(self) -> Self:
        """The report without what the model said."""
        samples = tuple(sample.model_copy(update={"completion": ""}) for sample in self.samples)
        return self.model_copy(update={"samples": samples})


class Comparison(Record):
    """A paired comparison of two arms over the same tasks; rates and differences as fractions.

    `gained` and `lost` are task ids whose mean pass rate rose or fell. `p_value` is the exact
    one-sided McNemar (sign) test that the candidate is not better; `p_harm` the mirror image, of what was measured.
    `interval` is the paired interval of the difference at `confidence`.
    """

    versus: Literal["baseline", "current"]
    tasks: int
    delta: float
    interval: tuple[float, float]
    confidence: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    p_value: float
    p_harm: float


class FamilyChange(Record):
    """One family, or one category of families, under the guard: its tasks gained and lost, and is that harm."""

    family: str
    tasks: int
    gained: int
    lost: int
    p_harm: float
    blocked: bool


class Evidence(Record):
    """What the decision rests on: natural logs of the e-values against both references, and what they need.

    `units` of `total` clusters were measured: all of them if `whole`, else the verdict was final before the end of the
    set, which `saved` so many answers. `left_out` are tasks that failed their controls that night, and `fresh` is how
    many clusters of tasks were asked that nobody has trained on. `opening` of `openings` was charged in `epoch`.
    `record_sha256` names the record from which `replay-verdict` computes all of it again.
    """

    epoch: int
    opening: int
    openings: int
    scope: Literal["population", "frozen-set-only"]
    units: int
    total: int
    versus_baseline: float
    versus_current: float
    baseline_needs: float
    current_needs: float
    record_sha256: str
    whole: bool = True
    saved: int = 0
    left_out: tuple[str, ...] = ()
    fresh: int = 0


class GateVerdict(Record):
    """The gate's decision, as reports and cards show it.

    `minimum_detectable_effect` is the smallest true gain (fraction) that as many tasks as were measured would find with
    80% power; `reasons` are machine-readable codes, worst first; `alpha` is what an epoch may spend. Verdicts of before
    there was `evidence` promised alpha per night.
    """

    decision: Decision
    reasons: tuple[str, ...]
    alpha: float
    comparisons: tuple[Comparison, ...]
    families: tuple[FamilyChange, ...]
    infra_tasks: tuple[str, ...]
    minimum_detectable_effect: float
    evidence: Evidence | None = None

    @property
    def detectable(self) -> float | None:
        """`minimum_detectable_effect` of the whole set; None where a verdict was final before that was measured."""
        return self.minimum_detectable_effect if self.evidence is None or self.evidence.whole else None

    @property
    def harmful(self) -> bool:
        """Rejected, and worse by more than chance explains, in all or in a family; gaining too little is no harm.

        A family keeps from serving at 10% already. That costs a candidate; this costs the day's episodes.
        """
        worse = any(comparison.p_harm <= HARM_ALPHA for comparison in self.comparisons)
        worse |= any(family.p_harm <= HARM_ALPHA / len(self.families) for family in self.families)
        return self.decision is Decision.REJECT and worse


class Contender(Record):
    """Weights that a night may serve, and the dev tasks that they passed and failed, by id.

    `weights` is their folder in the night's work (`checkpoints/0040`, `adapter`); their update counts `scale` times.
    `kl` is the distance from the base on a few anchors at full scale, in nats per token.
    """

    weights: str
    scale: float = 1.0
    kl: float | None = None
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Share of the measured tasks that passed; -1 when none was measured."""
        measured = len(self.passed) + len(self.failed)
        return len(self.passed) / measured if measured else -1.0


class Choice(Record):
    """What is served of one training run: the first of `contenders`, the best on the dev set.

    `served` is what serves on the same tasks (None: nothing was measured, there was nothing to choose from). `ruling`:
    "harm" when the update at full scale breaks more than chance does, "no gain" when the best contender passes no more
    than what serves; `reason` says so with numbers.
    """

    contenders: tuple[Contender, ...]
    served: Contender | None = None
    ruling: Literal["go", "no gain", "harm"] = "go"
    reason: str = ""

    @property
    def chosen(self) -> Contender:
        return self.contenders[0]


class Phase(Record):
    """One finished step of a night, with its wall-clock seconds."""

    name: str
    seconds: float
    resumed: bool = False


NightOutcome = Literal["promoted", "rejected", "inconclusive", "skipped", "failed"]
"""What became of the served model."""


class Day(Record):
    """What a night works with: the episodes up to the position `until` that no earlier night has used up.

    Noted once, so that episodes which arrive during the night wait for the next one. The tasks `fresh` are held back
    from training.
    """

    until: int
    fresh: tuple[str, ...] = ()


class NightReport(Record):
    """One night from start to end. `outcome` is what happened to the served model.

    `kl` is KL(base || adapter) of the last training step, in nats per token; None where nothing was trained or the
    trainer did not say. Of `dreamed` failed tasks dreaming found a verified answer to `answered`.
    `choice` says which weights became the candidate, `stopped` why training ended before its last step, if it did.
    """

    cycle: int
    started: datetime
    finished: datetime
    outcome: NightOutcome
    reason: str
    phases: tuple[Phase, ...] = ()
    shares: dict[str, float] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    recipe: Recipe | None = None
    steps: int = 0
    candidate: str | None = None
    serving: str
    reports: tuple[EvalReport, ...] = ()
    verdict: GateVerdict | None = None
    kl: float | None = None
    dreamed: int = 0
    answered: int = 0
    choice: Choice | None = Field(default=None, exclude_if=is_none)
    stopped: str = Field(default="", exclude_if=is_empty)
    left_out: LeftOut = Field(default=LeftOut(), exclude_if=_is_nothing)
