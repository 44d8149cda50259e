"""What the recipes of ``docs/studies/`` share: runs, kept results, statistics, and the figures of a page."""
