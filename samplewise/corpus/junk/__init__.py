"""Which texts are junk, by what each is alone: no measure depends on the other texts of a corpus."""

from samplewise.corpus.junk.score import BORDER, Junk, judge_texts

__all__ = ["BORDER", "Junk", "judge_texts"]
