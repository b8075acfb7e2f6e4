"""Our side of ``study.py``: tunes, then prints the share of the time in which nothing trained."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from pathlib import Path

from gru_optuna.cli.process import begin_work


def main(study_path: str, url: str, overrides: list[str]) -> None:
    """Tunes without test split and report, which the plain script doesn't have either."""
    gc.disable()  # while importing, and frozen at the end, as the command line does
    from gru_optuna import study_file
    from gru_optuna.data.load import load_dataset
    from gru_optuna.storage.database.open import open_storage
    from gru_optuna.study.study import create_or_resume
    from gru_optuna.training.pool_factory import make_pool
    from gru_optuna.worker.run import WorkerSettings, work

    begin_work()
    spec = study_file.load(Path(study_path), overrides)
    dataset = load_dataset(spec, Path(study_path).parent)
    study = create_or_resume(open_storage(url, create=True), spec, dataset.fingerprint)
    settings = WorkerSettings()
    pool, size = make_pool(spec, [dataset], settings.threads, settings.slots)
    began = time.perf_counter()
    worker = work(study, url, spec, pool, size, settings, threading.Event(), lambda event: None)
    seconds = time.perf_counter() - began
    share = 1 - worker.training_seconds / seconds
    print(json.dumps({"bookkeeping": round(share, 4), "seconds": round(seconds, 3)}))
    gc.freeze()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [word for word in sys.argv[3:] if word != "--set"])
