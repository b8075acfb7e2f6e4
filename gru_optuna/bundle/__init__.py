"""A trained network to take away: its weights, its preprocessing, and how good it is.

A bundle is a folder of JSON, safetensors and Markdown. Reading one executes nothing.
"""
