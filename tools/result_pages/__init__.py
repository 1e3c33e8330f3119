"""The pages of results/: tables written from results.json, so that no number on them is typed by hand."""
