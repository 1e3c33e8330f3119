"""The extra `report`: a picture of a rule."""

import tempfile
from pathlib import Path

from samplewise.report import draw_weights

picture = Path(tempfile.mkdtemp()) / "rule.png"
draw_weights(picture, [1.0, 2.0, 3.0], [0.5, 1.0, 1.5], "ir_dro(r=1.0)")
assert picture.read_bytes().startswith(b"\x89PNG")
