"""Pictures (these need matplotlib) and tables."""

from typing import TYPE_CHECKING

from samplewise.core.lazy import names_from

if TYPE_CHECKING:
    from samplewise.report.arms import draw_arms
    from samplewise.report.curve import draw_weights
    from samplewise.report.groups import draw_groups
    from samplewise.report.run import draw_finished, draw_run
    from samplewise.report.table import arms_table

__all__ = ["arms_table", "draw_arms", "draw_finished", "draw_groups", "draw_run", "draw_weights"]

_PLACES = {
    "draw_arms": "samplewise.report.arms",
    "draw_weights": "samplewise.report.curve",
    "draw_groups": "samplewise.report.groups",
    "draw_finished": "samplewise.report.run",
    "draw_run": "samplewise.report.run",
    "arms_table": "samplewise.report.table",
}
"""Each name with its module, which is imported when the name is used: a page needs no matplotlib."""
__getattr__, __dir__ = names_from(__name__, _PLACES)
