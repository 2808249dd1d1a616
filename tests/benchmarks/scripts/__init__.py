"""Programs as the users of the peers write them: a benchmark runs them as processes of their own."""
