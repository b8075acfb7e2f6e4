"""The report's figures: each file holds a figure's numbers, its drawing and its caption."""
