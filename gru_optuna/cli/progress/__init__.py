"""What ``tune`` shows while it runs, on stderr; stdout is for results.

``run_state`` counts events, ``time_left`` estimates what remains, ``drawing`` draws both
for a terminal, ``live`` keeps the drawing fresh, and ``log`` writes lines for a pipe or a file.
"""

from gru_optuna.cli.progress.live import LiveView, ProgressView, make_view
from gru_optuna.cli.progress.log import PlainView

__all__ = ["LiveView", "PlainView", "ProgressView", "make_view"]
