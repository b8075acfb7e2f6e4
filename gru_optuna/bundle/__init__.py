"""A trained network to take away: its weights, what its rows go through, and what is known of it.

manifest.py    what stands in a bundle's JSON files
files.py       a bundle on disk: written whole, read only if it is what was written
given.py       rows to predict, as people have them
predicting.py  a bundle in memory, and its predictions
card.py        its model card
making.py      from networks to a bundle
trials.py      from a trial to a bundle

A bundle is a folder of JSON, safetensors and Markdown. Reading one executes nothing.
"""
