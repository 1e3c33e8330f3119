"""Which texts are junk, by what each is alone: no measure depends on the other texts of a corpus."""

from samplewise.corpus.junk.cut import Cut, best_cut
from samplewise.corpus.junk.score import BORDER, Junk, judge_texts

__all__ = ["BORDER", "Cut", "Junk", "best_cut", "judge_texts"]
