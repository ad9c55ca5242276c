"""Shows runs as an HTML page, plots, tables, and views in notebooks."""
