"""Plain numbers drawn with plotly: every function takes what ``report.numbers`` made."""
