"""Works on a study: claims trials, trains them together, commits what becomes of them.

loop.py     what happens in which order
running.py  the trials in its slots
books.py    what is committed, and when
events.py   what those who watch are told
"""

from gru_optuna.worker.loop import Worker

__all__ = ["Worker"]
