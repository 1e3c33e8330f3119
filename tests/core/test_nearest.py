"""The remedy of an unknown name."""

from samplewise.core.errors import MOST_NAMES, nearest


def test_a_near_name_then_all_names_then_the_nearest_of_very_many():
    few = ["rule", "pool", "turns"]
    assert nearest("rules", few) == "Did you mean rule?"
    assert nearest("xyz", few) == "Known: rule, pool, turns."
    assert nearest("xyz", []) == "Known: none."
    many = [f"name_{k}" for k in range(MOST_NAMES)] + ["zyx"]
    said = nearest("role", many)
    assert said.startswith(f"Known: {MOST_NAMES + 1} names, of which the nearest are ")
    assert len(said) < 150
