"""The study: recipes x seeds x cycles, each with and without the gate, on the same days and the same frozen set."""
