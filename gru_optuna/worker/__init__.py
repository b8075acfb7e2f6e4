"""Works on a study: claims trials, trains them together, commits what becomes of them.

run.py      joins a study, with data, pool and lease
loop.py     what happens in which order
trial.py    a trial in its slot
commits.py  what is committed, and when
events.py   what happens, for those who watch
watcher.py  what happens in other processes
"""
