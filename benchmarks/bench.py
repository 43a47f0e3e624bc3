"""What every benchmark is given: its scale, what it is measured against, and a place to say how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from .posts import Poster
from .scale import Scale
from .stack import Served, Stack, fresh_data_dir
from .traffic import FEATURES, Batch, feature_document

TEAM = "assistants"


class Bench:
    """One run. What it starts ends with `close`."""

    def __init__(self, scale: Scale, data_dir: Path, say: Callable[[str], None]) -> None:
        self.scale = scale
        self.say = say
        self._data_dir = data_dir
        self._started = ExitStack()

    def close(self) -> None:
        """Ends the servers that are shared by benchmarks; who asks for them again has them started again."""
        self._started.close()
        for name in ("stack", "product_client"):
            self.__dict__.pop(name, None)

    def empty(self) -> None:
        """Empties the product's tables: what is measured next is all that there is."""
        self.__dict__.pop("product_client", None)
        self.stack.empty()

    @cached_property
    def stack(self) -> Stack:
        """Servers without workers, started at first use and shared by the benchmarks that need no more."""
        return self._started.enter_context(Stack(self._data_dir))

    @cached_property
    def product_client(self) -> Callable[[Sequence[Batch]], Poster]:
        """Makes clients of the product's ingest that post batches in turn. All features are declared."""
        from budgets.features import declare_feature
        from budgets.keys import create_key

        stack, now = self.stack, datetime.now(tz=UTC)
        key, token = create_key(
            team_slug=TEAM, name="benchmark", scopes=["ingest"], actor="the benchmark", now=now
        )
        for name in FEATURES:
            document = feature_document(name)
            declare_feature(team=key.team, slug=name, document=document, actor="benchmark", now=now)
        return partial(Poster, stack.serve_product(), "/api/v1/measurements", token)

    def forget_pending(self) -> None:
        """Marks what was ingested as rolled up, so that no backlog grows where no worker runs."""
        from budgets.models import Batch

        pending = Batch.objects.filter(state=Batch.State.PENDING)
        pending.update(state=Batch.State.ROLLED_UP, rolled_up_at=datetime.now(tz=UTC))

    @contextmanager
    def served(self, **settings: str) -> Iterator[Served]:
        """All of the product in a data folder of its own. The shared servers end first: they would share the
        processors, and PostgreSQL may still be writing what was measured before."""
        self.close()
        with fresh_data_dir() as data_dir, Served(data_dir, settings) as served:
            yield served
