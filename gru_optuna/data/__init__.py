"""From files to tensors.

``readers`` give rows as the files have them. ``texts``, ``sequences`` and ``series`` check, split
and encode them; a `Dataset` comes out, for every task alike.
"""
