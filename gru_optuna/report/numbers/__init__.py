"""What the report shows, as plain numbers: trials go in, lists and small dataclasses come out.

``report.figures`` draws them, the report's JSON files hold them as they are (`trials.as_json`).
Each module is one family of figures; none of them knows how it is drawn.
"""
