"""Reports on a study: numbers, findings, figures, the page, and notes for optuna-dashboard."""
