"""How a trial learns. ``reference`` trains one trial, readably; the rest are its parts."""
