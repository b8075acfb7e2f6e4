"""``python -m gru_optuna`` is ``gru-optuna``."""

from gru_optuna.cli import main

main()
