"""The extra `corpus`: a folder of scores is opened, selected from and written, without a model."""

import tempfile
from pathlib import Path

from fake_scores import write_fake_scores

from samplewise.corpus import open_scores
from samplewise.corpus.run_select import Target, run_select
from samplewise.corpus.select import Choice
from samplewise.rules import parse_rule

folder = Path(tempfile.mkdtemp())
write_fake_scores(folder / "scores", rows=400)
assert len(open_scores(str(folder / "scores"))) == 400
chosen = Choice(rule=parse_rule("band(drop_top=0.25)"))
run_select(str(folder / "scores"), chosen, Target("ids", str(folder / "ids.parquet")), memory="1GB")
assert (folder / "ids.parquet").stat().st_size > 1000
