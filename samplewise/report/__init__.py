"""Pictures (these need matplotlib) and tables."""

from samplewise.report.arms import draw_arms
from samplewise.report.curve import draw_weights
from samplewise.report.groups import draw_groups
from samplewise.report.run import draw_finished, draw_run
from samplewise.report.table import arms_table

__all__ = ["arms_table", "draw_arms", "draw_finished", "draw_groups", "draw_run", "draw_weights"]
