"""How far a scoring is: the bar moves within a shard, not only from one to the next."""

from itertools import pairwise

from scoring import score

from samplewise.core import progress


def test_one_shard_moves_its_bar(tiny_model, corpus, tmp_path, monkeypatch):
    seen: list[tuple[float, str]] = []

    def reach(self, share, text):
        if self.title != "verifying":
            seen.append((share, text))

    monkeypatch.setattr(progress.Progress, "reach", reach)
    manifest = score(tiny_model, corpus, tmp_path / "out", shard_bytes=2**20, batch_tokens=256)
    assert len(manifest.shards) == 1
    shares = [share for share, _ in seen]
    assert all(a <= b for a, b in pairwise(shares))
    assert len({round(share, 1) for share in shares}) >= 9, "ten steps of a tenth"
    assert shares[-1] == 1
    assert "tokens/s" in seen[0][1]
    assert seen[0][1].endswith("left")
