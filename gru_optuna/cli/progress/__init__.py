"""What ``tune`` shows while it runs, on stderr; stdout is for results.

``tally`` counts what happened, ``pace`` says how fast and how long still, ``picture`` draws it
for a terminal and ``live`` keeps the drawing fresh; ``plain`` writes lines where nobody watches.
"""

from gru_optuna.cli.progress.live import LiveView, View, make_view
from gru_optuna.cli.progress.log import PlainView

__all__ = ["LiveView", "PlainView", "View", "make_view"]
