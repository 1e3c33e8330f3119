"""The page about a scored corpus, section by section."""

from samplewise.report.corpus.build import write_corpus_report

__all__ = ["write_corpus_report"]
