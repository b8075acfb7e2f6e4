"""The keys under which a study's own records stand in its attributes, in Optuna's tables.

What a trial records is in ``study/trial_attributes.py``. Existing databases hold these strings,
so none of them may change.
"""

SPECIFICATION = "specification"
"""The study file that the study was made with, every default written out."""

DEFAULTS_VERSION = "defaults_version"
"""The version of the defaults that the specification holds."""

FINGERPRINT = "fingerprint"
"""The fingerprint of the data that the study was made with."""

DATA_FILES = "data_files"
"""The SHA-256 of each file that the study reads, by its path, where the database holds them for
workers that a cluster placed; see `study.data_files`."""

FORMATS = "column_formats"
"""How the columns of the data are written, where they aren't plain; see `TableFormats`."""

BUDGET = "budget"
"""The budget that the study was last given."""

BASELINES = "baselines"
"""The metric of predictions without a GRU, by the baseline's name."""

FITTED_BASELINES = "fitted_baselines"
"""Simple models that were fitted to the training rows, and what they reach; see
`study.fitted_baselines`."""

CHECKPOINTS = "checkpoints"
"""A folder or ``s3://BUCKET/PREFIX`` of the study's own. Without it, checkpoints lie next to a
SQLite file, or in a PostgreSQL database."""

WORKED_SECONDS = "worked_seconds"
"""Seconds of wall time during which some worker worked on the study."""

WORKED_UNTIL = "worked_until"
"""The database's time up to which that is counted."""

CONFIRMATION = "confirmation"
"""The last decision about the winner."""

CONFIRMATION_SECONDS = "confirmation_seconds"
"""How much of the worked seconds the confirmation took."""

CONFIRMATION_RUNS = "confirmation_runs"
"""Every finished run of a confirmation, so that none is trained twice."""

CONFIRMATION_LEASES = "confirmation_leases"
"""The worker that trains each unfinished run of a confirmation, and its fencing token."""

TEST = "test"
"""The winner's number and its metric on the test rows."""

PREDICTIONS = "predictions"
"""The winner's predictions: ``number`` (the trial's) and ``test`` or ``validation``, which hold
what `study.predictions.describe_predictions` returns, the metric's ``value`` and its ``interval``.
"""

FUTURE = "future"
"""The last forecast of the steps after the newest rows; see `study.predictions.describe_future`."""

PREDICTION_INTERVALS = "prediction_intervals"
"""How far the winner's predictions of numbers are off; see `study.prediction_intervals`."""

CALIBRATION = "calibration"
"""The temperature of the winner's probabilities; see `study.calibration`."""

WARM_START = "warm_start"
"""For a study: what it took from other studies, by source. For a trial: its source and the number
it had there."""

DESCRIBED_AT = "gru_optuna:described_at"
"""System attribute: when the study's note and figures were last written, the database's time."""
