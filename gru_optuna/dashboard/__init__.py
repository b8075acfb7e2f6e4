"""optuna-dashboard for a study's storage, safe to leave open, together with the reports.

optuna-dashboard has no login and no read-only mode: everyone who can connect to it can delete
studies. So ``access`` checks every request and sets the headers of every response, ``server``
listens on loopback by default, and ``reports`` serves ``/report/NAME/``.
"""

from gru_optuna.dashboard.access import Rules, rules_for
from gru_optuna.dashboard.app import make_app
from gru_optuna.dashboard.server import bind
from gru_optuna.dashboard.settings import DashboardSettings

__all__ = ["DashboardSettings", "Rules", "bind", "make_app", "rules_for"]
