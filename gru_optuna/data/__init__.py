"""From files to tensors.

Readers (``tables``, ``ts``, ``npz``, ``long``) give rows as they are. ``text``, ``sequences`` and
``forecasting`` check, split and encode them; ``dataset`` is what comes out, for every task alike.
"""
