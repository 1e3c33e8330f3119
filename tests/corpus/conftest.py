import pytest
import world


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A random Llama with a tokenizer of words, saved."""
    return world.save_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """120 documents of 1 to 80 words: one window or several, and some shorter than min_tokens."""
    return world.save_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", least=1)
