"""Requests with the shape of published measurements, drawn with numpy; no Django, no clock.

What is real and what is ours: *when* requests come and *how long answers are* follow Azure's LLM traces;
*how long a model takes*, to its first token and to its last, are pairs measured by LLMPerf; *how the
other components vary together* within a request are rows of DeLag. A drawn value is a measured one
times a small log-normal jitter (a smoothed bootstrap), scaled to the feature. Which of them a feature
adds up, its failures and its releases are ours.

All durations and offsets are milliseconds; arrays of n hold one value a request.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Statuses = NDArray[np.int8]

OK, ERROR, TIMEOUT = 0, 1, 2
DATA = Path(__file__).parent / "data"
TOKENS_OF_A_RUN = (
    150.0  # the answer length of the measured runs: total − first token is the time of 150 tokens
)
NEW_SEARCH = "search_v2"
NEW_SEARCH_RATIO = 0.08  # of support-chat's requests, on trial
JITTER = 0.06  # sigma of the log-normal factor on every drawn duration


@dataclass(frozen=True, slots=True)
class Slowdown:
    """What a release or an accident does to a component: duration × ``factor`` + ``plus_ms``.

    A factor of 0 leaves the component out. Either may be an array with one value a request. ``new_search`` is the
    share of requests of which the tools use the new search; only these take ``plus_ms`` longer, where it is given.
    """

    factor: float = 1.0
    plus_ms: float | Floats = 0.0
    new_search: float | Floats | None = None


Slowdowns = Mapping[str, Slowdown]


@dataclass(frozen=True, slots=True)
class Requests:
    """n requests of one feature. Row k of the four call arrays (k × n) is a call of ``components[k]``;
    a component that stands there more than once is called several times."""

    milestones: dict[str, Floats]  # NaN where it was not reached
    statuses: Statuses
    components: tuple[str, ...]
    offsets: Floats
    durations: Floats
    call_statuses: Statuses
    happened: Flags
    cold: Flags  # the rows that DeLag slowed down in one way; sent as a label
    tools: NDArray[np.str_] | None = None  # which tool each used; sent as a label

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def total_ms(self) -> Floats:
        """The time from the start to the milestone that was reached last."""
        total: Floats = np.fmax.reduce(list(self.milestones.values()))
        return total


Draw = Callable[[np.random.Generator, int, Slowdowns], Requests]


# -- Excerpts -------------------------------------------------------------------------------------
@cache
def _columns(path: str) -> dict[str, NDArray[np.str_]]:
    with (DATA / path).open(newline="") as file:
        header, *rows = csv.reader(file)
    return {name: np.array([row[index] for row in rows]) for index, name in enumerate(header)}


@cache
def arrival_shape(trace: str) -> Floats:
    """Requests in each minute of the trace ("conv" or "code") over their mean: how real traffic bursts."""
    columns = _columns("azure_llm/arrivals.csv")
    counts = columns["requests"][columns["trace"] == trace].astype(float)
    shape: Floats = counts / counts.mean()
    return shape


@cache
def _output_token_quantiles(trace: str) -> Floats:
    return _columns("azure_llm/output_tokens.csv")[trace].astype(float)


@cache
def _run(name: str) -> Floats:
    columns = _columns("llmperf/times.csv")
    chosen = columns["run"] == name
    first_token = columns["first_token_ms"][chosen].astype(float)
    return np.stack([first_token, columns["total_ms"][chosen].astype(float) - first_token])


@cache
def _calls(system: str) -> dict[str, Floats]:
    return {name: values.astype(float) for name, values in _columns(f"delag/{system}.csv").items()}


def arrivals(trace: str, hour: int) -> Floats:
    """Relative traffic of the 60 minutes of an hour (counted from the epoch), mean about 1.

    The trace is about an hour long; it starts at another minute in every hour, so that no hour looks
    like the one before.
    """
    shape = arrival_shape(trace)
    start = int(np.random.default_rng([hour, len(shape)]).integers(len(shape)))
    return shape[(start + np.arange(60)) % len(shape)]


# -- Draws ----------------------------------------------------------------------------------------
def _jitter(rng: np.random.Generator, n: int) -> Floats:
    return np.exp(rng.normal(0.0, JITTER, n))


def _output_tokens(rng: np.random.Generator, n: int, trace: str) -> Floats:
    return np.interp(rng.random(n) * 100, np.arange(101), _output_token_quantiles(trace))


def _model(rng: np.random.Generator, n: int, runs: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Times to the first token and for 150 tokens after it, from a mixture of runs by weight."""
    chosen = np.searchsorted(np.cumsum(list(runs.values())), rng.random(n), side="right")
    first_token, rest = np.empty(n), np.empty(n)
    for index, name in enumerate(runs):
        here = np.flatnonzero(np.minimum(chosen, len(runs) - 1) == index)
        pairs = _run(name)
        rows = rng.integers(pairs.shape[1], size=len(here))
        first_token[here], rest[here] = pairs[:, rows]
    return first_token * _jitter(rng, n), rest * _jitter(rng, n)


class _Path:
    """Calls of n requests in the order in which they start; ``finish`` cuts them where the request ends."""

    def __init__(self, rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> None:
        self.rng, self.n, self.slowdowns = rng, n, slowdowns
        self.end = np.zeros(n)
        self._calls: list[tuple[str, Floats, Floats, Flags]] = []

    def call(
        self, component: str, duration: Floats, *, at: Floats | None = None, where: Flags | None = None
    ) -> None:
        """Adds a call that starts where all before it have ended, or at ``at``, in the requests ``where``."""
        change = self.slowdowns.get(component, Slowdown())
        happened = np.ones(self.n, bool) if where is None else where
        if change.factor == 0:
            happened = np.zeros(self.n, bool)
        start = self.end if at is None else at
        duration = duration * change.factor + change.plus_ms
        self._calls.append((component, start, duration, happened))
        self.end = np.maximum(self.end, np.where(happened, start + duration, start))

    def finish(self, *, rest: Floats | None, cold: Flags, error_ratio: float, timeout_ms: float) -> Requests:
        """The requests, with a first token where the answer streams for ``rest`` ms after the calls.

        A share of ``error_ratio`` fails at a random moment, and nothing takes longer than
        ``timeout_ms``: what runs at that moment has the same status, what had not begun is absent.
        """
        first_token = self.end
        complete = first_token if rest is None else first_token + rest
        statuses = np.where(complete > timeout_ms, TIMEOUT, OK).astype(np.int8)
        cut = np.minimum(complete, timeout_ms)
        failed = self.rng.random(self.n) < error_ratio
        statuses[failed] = ERROR
        cut = np.where(failed, cut * self.rng.uniform(0.05, 0.95, self.n), cut)

        offsets = np.array([start for _, start, _, _ in self._calls])
        durations = np.array([duration for _, _, duration, _ in self._calls])
        happened = np.array([flags for _, _, _, flags in self._calls]) & (offsets < cut)
        running = happened & (offsets + durations > cut) & (statuses != OK)
        if rest is None:
            milestones = {"complete": cut}
        else:
            ended_before = (statuses != OK) & (cut < first_token)
            milestones = {
                "first_token": np.minimum(first_token, cut),
                "complete": np.where(ended_before, np.nan, cut),
            }
        return Requests(
            milestones=milestones,
            statuses=statuses,
            components=tuple(name for name, _, _, _ in self._calls),
            offsets=offsets,
            durations=np.where(running, cut - offsets, durations),
            call_statuses=np.where(running, statuses, OK).astype(np.int8),
            happened=happened,
            cold=cold,
        )


def _rows(rng: np.random.Generator, n: int, system: str) -> tuple[dict[str, Floats], Flags]:
    """Rows of a DeLag system drawn with their correlation, and which of them were slowed down on purpose."""
    calls = _calls(system)
    rows = rng.integers(len(calls["Latency"]), size=n)
    return {name: values[rows] for name, values in calls.items()}, calls["anomaly"][rows] == 1


def _tools(rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> tuple[NDArray[np.str_], Slowdowns]:
    """The tool that each request uses, and the slowdowns, of which that of the new search is for its requests alone."""
    change = slowdowns.get("tools", Slowdown())
    # A stream of its own: what else is drawn does not depend on it.
    drawn = rng.spawn(1)[0].random((2, n))
    is_new = drawn[0] < (NEW_SEARCH_RATIO if change.new_search is None else change.new_search)
    tools = np.where(is_new, NEW_SEARCH, np.where(drawn[1] < 0.6, "search", "orders"))
    if change.new_search is None:
        return tools, slowdowns
    return tools, {**slowdowns, "tools": replace(change, plus_ms=np.where(is_new, change.plus_ms, 0.0))}


def support_chat(rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> Requests:
    """A streamed answer: overhead, retrieval, tools, then a model until its first token; 30 s at most.

    One in 200 falls back to a provider whose first token takes up to a minute.
    """
    row, cold = _rows(rng, n, "eshopper")
    runs = {"together_70b": 0.995, "replicate_70b": 0.005}
    to_first_token, of_a_run = _model(rng, n, runs)
    tokens = _output_tokens(rng, n, "conv")
    tools, slowdowns = _tools(rng, n, slowdowns)
    path = _Path(rng, n, slowdowns)
    path.call("overhead", (row["Latency"] - row["GatewayGet"]) * 0.6 * _jitter(rng, n))
    path.call("retrieval", row["ItemsControllerFinditemsrandombyidproduct"] * 3.0 * _jitter(rng, n))
    path.call("tools", row["GatewayGet"] * 2.0 * _jitter(rng, n))
    path.call("model", to_first_token * 1.4)
    rest = of_a_run * 0.8 * tokens / TOKENS_OF_A_RUN
    return replace(path.finish(rest=rest, cold=cold, error_ratio=0.0015, timeout_ms=30_000), tools=tools)


def inline_help(rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> Requests:
    """A completion of at most 32 tokens, shown at once: context, model, ranking; 5 s at most."""
    row, cold = _rows(rng, n, "trainticket")
    to_first_token, of_a_run = _model(rng, n, {"anyscale_13b": 0.99, "together_13b": 0.01})
    tokens = np.minimum(_output_tokens(rng, n, "code"), 32)
    path = _Path(rng, n, slowdowns)
    path.call("context", row["ts-seat-service_getLeftTicketOfInterval"] * 2.0 * _jitter(rng, n))
    path.call("model", to_first_token + of_a_run * tokens / TOKENS_OF_A_RUN)
    path.call("ranking", row["ts-basic-service_queryForTravel"] * 1.2 * _jitter(rng, n))
    return path.finish(rest=None, cold=cold, error_ratio=0.001, timeout_ms=5_000)


def report_writer(rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> Requests:
    """A report of 500 tokens and more, delivered whole: retrieval, model, formatting; 2 min at most."""
    row, cold = _rows(rng, n, "eshopper")
    to_first_token, of_a_run = _model(rng, n, {"perplexity_70b": 0.99, "replicate_70b": 0.01})
    tokens = 500 + _output_tokens(rng, n, "conv")
    path = _Path(rng, n, slowdowns)
    path.call("retrieval", row["Latency"] * 8.0 * _jitter(rng, n))
    path.call("model", to_first_token + of_a_run * tokens / TOKENS_OF_A_RUN)
    path.call("formatting", (row["Latency"] - row["GatewayGet"]) * 3.0 * _jitter(rng, n))
    return path.finish(rest=None, cold=cold, error_ratio=0.01, timeout_ms=120_000)


def research_agent(rng: np.random.Generator, n: int, slowdowns: Slowdowns) -> Requests:
    """A workflow: a plan, two to six searches, two at a time, a long answer, guardrails; 4 min at most."""
    row, cold = _rows(rng, n, "eshopper")
    searches = rng.integers(2, 7, n)
    path = _Path(rng, n, slowdowns)
    to_first_token, of_a_run = _model(rng, n, {"together_70b": 0.99, "replicate_70b": 0.01})
    path.call("plan", (to_first_token + of_a_run) * 2.5)
    for number in range(0, 6, 2):
        start = path.end
        for call in (number, number + 1):
            found, _ = _rows(rng, n, "trainticket")
            path.call("search", found["Latency"] * 60.0 * _jitter(rng, n), at=start, where=searches > call)
    to_first_token, of_a_run = _model(rng, n, {"perplexity_70b": 1.0})
    tokens = 1500 + _output_tokens(rng, n, "conv")
    path.call("model", to_first_token + of_a_run * tokens / TOKENS_OF_A_RUN)
    path.call("guardrails", row["Latency"] * 25.0 * _jitter(rng, n))
    return path.finish(rest=None, cold=cold, error_ratio=0.015, timeout_ms=240_000)
