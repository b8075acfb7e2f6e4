"""Our side of ``study.py``: tunes, then prints what share of the time nothing trained."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from gru_optuna import spec as study_file
from gru_optuna.data.sequences import load_sequences
from gru_optuna.search.study import create_or_resume
from gru_optuna.storage.database import open_engine, open_storage
from gru_optuna.storage.mirror import Mirror
from gru_optuna.tuning import make_engine
from gru_optuna.worker import Worker


def main(study_path: str, url: str, overrides: list[str]) -> None:
    """As ``tune`` does it, without test split and report, which the plain script lacks too."""
    spec = study_file.load(Path(study_path), overrides)
    dataset = load_sequences(spec, Path(study_path).parent)
    study = create_or_resume(open_storage(url, create=True), spec, dataset.fingerprint)
    mirror = Mirror(study, open_engine(url))
    engine, size = make_engine(spec, dataset)
    worker = Worker(mirror, spec, dataset, engine, size.slots, threading.Event())
    began = time.perf_counter()
    worker.run()
    seconds = time.perf_counter() - began
    share = 1 - worker.training_seconds / seconds
    print(json.dumps({"bookkeeping": round(share, 4), "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [word for word in sys.argv[3:] if word != "--set"])
