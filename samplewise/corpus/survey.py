"""What a report says of a folder of scores: counted over all samples by DuckDB, and some of them to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from samplewise.core.replaced import temporary_folder
from samplewise.corpus.candidates import Candidates, make_candidates
from samplewise.corpus.draw import draw
from samplewise.corpus.store import Scores, readable
from samplewise.corpus.sums import sum_sql, sums
from samplewise.corpus.within import BUCKETS, Records, part_name, within_of

LARGEST = 7
"""At most so many places are counted by name; the rest are counted as one."""
OTHER = "other"
LISTED = 100
"""At most so many parts of `within` are listed, the largest."""
QUANTILES = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
BINS = 60


@dataclass(frozen=True)
class Row:
    """A sample to show. place: its source, or the folder of it. text: its first characters, "" if they are not kept.

    part: by what the survey is made within; else "0".
    """

    id: int
    loss: float
    n_tokens: int
    source: str
    row: int
    place: str
    text: str
    part: str


class Survey:
    """Questions to a folder of scores. connection: with the view `placed`: the samples, their place, part and text.

    within: parts of their own in `kept_by`, as in `make_candidates`; sources and lengths are asked for anyway.
    """

    def __init__(
        self, connection: Any, scores: Scores, within: str | None = None, records: Records | None = None
    ) -> None:
        self.connection, self.scores = connection, scores
        self.within = None if within in ("source", BUCKETS) else within
        self.candidates: Candidates = make_candidates(
            connection, scores, "loss", self.within, "window", records=records
        )
        self.has_text = "text" in scores.columns
        text = "text" if self.has_text else "''"
        self.has_change = "loss_change" in scores.columns
        change = "loss_change" if self.has_change else "NULL"
        self._ask(f"""
            CREATE OR REPLACE TEMP VIEW plain AS
            SELECT id, doc_id, loss::DOUBLE AS loss, n_tokens, n_bytes, source, row, coalesce({text}, '') AS text,
                ({within_of(self.within, scores.columns).sql})::VARCHAR AS part, {change}::DOUBLE AS loss_change
            FROM scored WHERE isfinite(loss) AND n_tokens > 0
        """)
        self.places = self._name_places()

    def facts(self) -> dict[str, float]:
        """Counts and means over all samples; losses in nats/token, bits_per_byte over the text."""
        names = ("samples", "documents", "tokens", "bytes", "mean", "token_mean", "sources")
        plain, weighted = sums(self.connection, "placed", "loss", "loss * n_tokens")
        found = self._ask(f"""
            SELECT count(*), approx_count_distinct(doc_id), sum(n_tokens), sum(n_bytes), {plain} / count(*),
                {weighted} / sum(n_tokens), count(DISTINCT source) FROM placed
        """)[0]
        facts = dict(zip(names, map(float, found), strict=True))
        return facts | {"bits_per_byte": facts["token_mean"] * facts["tokens"] / max(1.0, facts["bytes"]) / np.log(2)}

    def quantiles(self) -> dict[float, float]:
        """Exact ones: the least loss that at least that share of the samples do not exceed."""
        shares = ", ".join(map(str, QUANTILES))
        return dict(zip(QUANTILES, self._ask(f"SELECT quantile_disc(loss, [{shares}]) FROM placed")[0][0], strict=True))

    def histogram(self, edges: np.ndarray, by: str = "'all'") -> dict[Any, np.ndarray]:
        """[K] counts between [K + 1] even edges by the value of `by` (SQL); what lies beyond counts at the ends."""
        low, width, last = float(edges[0]), float(edges[1] - edges[0]), len(edges) - 2
        place = f"least({last}, greatest(0, floor((loss - {low!r}) / {width!r})))::INTEGER"
        found = self._ask(f"SELECT {by} AS own, {place} AS bin, count(*) FROM placed GROUP BY own, bin")
        counts: dict[Any, np.ndarray] = {}
        for part, place, count in found:
            counts.setdefault(part, np.zeros(last + 1))[place] += count
        return counts

    def by_length(self) -> list[tuple[int, int, float, float, float]]:
        """For token counts from 2^k to 2^(k+1) − 1: k, samples, and the loss's quantiles .1, .5 and .9."""
        return [(bucket, count, *ends) for bucket, count, ends in self._ask("""
            SELECT floor(ln(n_tokens + 0.5) / ln(2))::INTEGER AS bucket, count(*), quantile_disc(loss, [0.1, 0.5, 0.9])
            FROM placed GROUP BY bucket ORDER BY bucket
        """)]  # fmt: skip

    def length_correlation(self) -> float | None:
        """Pearson's, of the loss and the logarithm of the token count; None where one of the two does not vary."""
        found = self._ask("SELECT corr(loss, ln(n_tokens)) FROM placed")[0][0]
        return None if found is None or not np.isfinite(found) else float(found)

    def kept(self, low: float, high: float) -> tuple[int, int, float]:
        """Samples and tokens with a loss of at least `low` and at most `high`, and their mean loss."""
        total = sum_sql("loss", self.candidates.largest, self.candidates.samples)
        return self._ask(f"""
            SELECT count(*), coalesce(sum(n_tokens), 0)::BIGINT, coalesce({total} / count(*), 'nan'::DOUBLE)
            FROM placed WHERE loss BETWEEN '{low!r}'::DOUBLE AND '{high!r}'::DOUBLE
        """)[0]

    def kept_by(self, within: str, bounds: Sequence[tuple[float, float]]) -> list[tuple[Any, int, str, list[int]]]:
        """(part, samples, its name, samples with a loss within each of the bounds) of every place, length or part.

        within: "source", of which only the largest have names; "length"; else what the survey is made within, of which
        the `LISTED` largest are given. bounds: lowest and highest loss.
        """
        lengths = "floor(ln(n_tokens + 0.5) / ln(2))::INTEGER"
        part = {"source": "place", BUCKETS: lengths}.get(within, "part")
        counts = ", ".join(
            f"count(*) FILTER (loss BETWEEN '{low!r}'::DOUBLE AND '{high!r}'::DOUBLE)" for low, high in bounds
        )
        order = "own" if within == BUCKETS else "count(*) DESC, own"
        limit = f"LIMIT {LISTED}" if part == "part" else ""
        found = self._ask(f"SELECT {part} AS own, count(*), {counts} FROM placed GROUP BY own ORDER BY {order} {limit}")
        return [(own, count, part_name(within, own), kept) for own, count, *kept in found]

    def parts(self) -> int:
        """How many there are of what the survey is made within."""
        return self._ask("SELECT count(DISTINCT part) FROM placed")[0][0]

    def sample(self, count: int) -> list[Row]:
        """About `count` samples at random, each as likely; the same ones every time."""
        share = min(1.0, count / max(1, self.candidates.samples))
        return self._rows(f"WHERE {draw(0)} < {share!r} ORDER BY id LIMIT {count}")

    def hardest(self, count: int) -> list[Row]:
        """The samples of highest loss, highest first."""
        return self._rows(f"ORDER BY loss DESC, id LIMIT {count}")

    def easiest(self, count: int) -> list[Row]:
        """The samples of lowest loss, lowest first."""
        return self._rows(f"ORDER BY loss, id LIMIT {count}")

    def typical(self, count: int, median: float) -> list[Row]:
        """The samples nearest to the median loss."""
        return self._rows(f"ORDER BY abs(loss - '{median!r}'::DOUBLE), id LIMIT {count}")

    def changed(self, count: int) -> tuple[list[float], list[tuple[float, Row]]]:
        """The quantiles .5, .95 and .99 of how far the loss changes within a sample, and the samples of which it
        changes most, with the change, nats/token. Nothing where the scores do not say.
        """
        ends = self._ask("SELECT quantile_disc(abs(loss_change), [0.5, 0.95, 0.99]) FROM placed")[0][0]
        if ends is None:
            return [], []
        order = "WHERE isfinite(loss_change) ORDER BY abs(loss_change) DESC, id"
        found = self._ask(f"SELECT id, loss_change FROM placed {order} LIMIT {count}")
        rows = self._rows(f"{order} LIMIT {count}")
        return ends, [(change, row) for (_, change), row in zip(found, rows, strict=True)]

    def repeated(self, count: int) -> tuple[int, list[tuple[int, float, float, str]]]:
        """Samples whose first characters another has too (but for case and white space), beyond one of each kind; and
        the most repeated of them: how often, lowest and highest loss, one text.
        """
        groups = """
            SELECT count(*) AS n, min(loss) AS low, max(loss) AS high, arg_min(text, id) AS text FROM placed
            WHERE length(text) >= 20 GROUP BY lower(trim(regexp_replace(text, '\\s+', ' ', 'g'))) HAVING count(*) > 1
        """
        extra = self._ask(f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM ({groups})")[0][0]
        return extra, self._ask(f"SELECT * FROM ({groups}) ORDER BY n DESC, text LIMIT {count}")

    def _name_places(self) -> list[str]:
        """Sources, or where there are many their first folders; the largest by name. Makes the view `placed`."""
        expression = "source"
        if self._ask("SELECT count(DISTINCT source) FROM plain")[0][0] > 3 * LARGEST:
            expression = "split_part(source, '/', 1)"
        found = self._ask(f"""
            SELECT {expression} AS place FROM plain GROUP BY place ORDER BY count(*) DESC, place LIMIT {LARGEST + 1}
        """)
        names = [place for (place,) in found]
        if len(names) > LARGEST:
            names = names[:LARGEST]
        listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
        self._ask(f"""
            CREATE OR REPLACE TEMP VIEW placed AS
            SELECT *, CASE WHEN {expression} IN ({listed}) THEN {expression} ELSE '{OTHER}' END AS place FROM plain
        """)
        return names

    def _rows(self, rest: str) -> list[Row]:
        found = self._ask(f"SELECT id, loss, n_tokens, source, row, place, text, part FROM placed {rest}")
        return [Row(*row) for row in found]

    def _ask(self, query: str) -> list[Any]:
        return self.connection.execute(query).fetchall()


@contextmanager
def survey(
    scores: Scores, *, memory: str = "2GB", within: str | None = None, records: Records | None = None
) -> Iterator[Survey]:
    """Questions may be asked as long as the block lasts. memory: what DuckDB may hold.

    within, records: as in `Survey`; records reads the corpus, for fields that the scores do not have.
    """
    with (
        readable(scores.place),
        temporary_folder() as temporary,
        scores.connect(memory=memory, temporary=temporary) as connection,
    ):
        yield Survey(connection, scores, within, records)


def even_edges(low: float, high: float, bins: int = BINS) -> np.ndarray:
    """[bins + 1] edges from low to high."""
    return np.linspace(low, high if high > low else low + 1, bins + 1)
