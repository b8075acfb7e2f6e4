"""The service: one address where a team submits, watches and takes home studies.

A thin front on the same database and the same package: ``app`` puts together the API (``api/``),
the pages (``pages/``), optuna-dashboard and the reports, behind the rules of ``access``. It keeps
no state of its own, so it may be killed at any moment, and two may run side by side. It never
trains: workers do. What needs torch, or reads what somebody uploaded, runs in a process of its own
(``processes``). ``gru-optuna dashboard`` is the same service for one user.
"""
