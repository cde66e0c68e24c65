"""Parts of the nightly re-evaluation: find registered models, restore them, run the two checks, judge scores."""
