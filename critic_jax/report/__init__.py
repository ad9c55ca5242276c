"""Shows runs: the HTML page, plots, tables, views in notebooks."""
